# amft in a container. Nobody has built this file yet: the machines it was written on have no container engine.
#
#   docker build -t amft .
#   docker run --rm -v "$PWD/runs:/home/amft/runs" amft train general_points --output-dir runs/demo
#
# With a GPU: docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t amft . ; docker run --gpus all ...
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras, with their brackets: EXTRAS=[lora,datasets]
ARG EXTRAS=

WORKDIR /opt/amft
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" ".$EXTRAS" \
    && useradd --create-home amft \
    && install --directory --owner amft /home/amft/runs

USER amft
WORKDIR /home/amft
ENTRYPOINT ["amft"]
CMD ["--help"]
