"""A server that speaks the endpoints of vLLM 0.32 which amft uses, over a real small model decoded by amft itself.

`python local_vllm.py [--ends-with PID] FOLDER ... --host H --port P`; as vLLM, it has random weights until the first
push. vLLM itself is tested in tests/vllm_engine.
"""

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from amft.models.lora import attach
from amft.rollout.decode import DecodeSampler
from amft.types import Sampling


class State:
    def __init__(self, folder):
        self.folder, self.lock = Path(folder), threading.Lock()
        self.adapter, self.version, self.updating, self.paths = None, "default", False, []
        self.model = self.fresh()

    def fresh(self):
        torch.manual_seed(7)
        if (self.folder / "model.safetensors").exists():
            return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.folder), dtype=torch.float32)

    def answer(self, path, body):
        name = "on" + path.replace("/", "_")
        if not hasattr(self, name):
            return 404, {"error": {"message": f"no {path}"}}
        with self.lock:
            return getattr(self, name)(body)

    def on_health(self, _):
        return 200, None

    def on_v1_models(self, _):
        return 200, {"data": [{"id": "policy", "max_model_len": self.model.config.max_position_embeddings}]}

    def on_init_weight_transfer_engine(self, body):
        return (200, {}) if body["init_info"] == {} else (500, {"error": {"message": "bad init_info"}})

    def on_start_weight_update(self, _):
        self.updating = True
        return 200, {}

    def on_update_weights(self, body):
        if not self.updating:
            return 500, {"error": {"message": "start_weight_update must be called before update_weights."}}
        given = load_file(body["update_info"]["path"])
        if unknown := sorted(given.keys() - self.model.state_dict().keys()):
            return 500, {"error": {"message": f"no parameter {unknown[0]}"}}
        self.model.load_state_dict(given, strict=False)
        return 200, {}

    def on_finish_weight_update(self, body):
        self.updating, self.version = False, body["weight_version"]
        (self.folder / "pushes").open("a").write(self.version + "\n")
        return 200, {}

    def on_reset_prefix_cache(self, _):
        return 200, {"success": True}

    def on_v1_load_lora_adapter(self, body):
        if self.adapter == body["lora_name"]:
            return 400, {"error": {"message": "already loaded"}}
        self.model, self.adapter = self.fresh(), body["lora_name"]
        attach(self.model, Path(body["lora_path"]))
        return 200, None

    def on_v1_unload_lora_adapter(self, body):
        return (400, {"error": {"message": "in use"}}) if body["lora_name"] == self.adapter else (200, None)

    def on_inference_v1_generate(self, body):
        if body["model"] not in ("policy", self.adapter):
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        asked = body["sampling_params"]
        sampler = DecodeSampler(self.model, pad_id=0, eos_ids=asked["stop_token_ids"])
        sampling = Sampling(asked["n"], asked["max_tokens"], asked["temperature"], asked["top_p"], asked["top_k"])
        found = sampler.generate([body["token_ids"]], sampling, torch.Generator().manual_seed(asked["seed"] or 0))
        return 200, {"choices": [self.choice(i, each, asked) for i, each in enumerate(found)]}

    def choice(self, i, sample, asked):
        ids = list(sample.completion_ids)
        logps = sample.logps or self.score(sample, asked)
        content = [{"token_id": token, "logprob": logp} for token, logp in zip(ids, logps)]
        return {
            "index": i,
            "finish_reason": "stop" if sample.finished else "length",
            "token_ids": ids,
            "weight_versions": [{"version": self.version, "start": 0, "end": len(ids)}],
            "logprobs": {"content": content} if asked["logprobs"] is not None else None,
        }

    @torch.no_grad()
    def score(self, sample, asked):
        if asked["logprobs"] is None:
            return []
        ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
        logps = (self.model(ids).logits[0, len(sample.prompt_ids) - 1 : -1] / asked["temperature"]).log_softmax(-1)
        return logps.gather(1, torch.tensor(sample.completion_ids)[:, None])[:, 0].tolist()


def handler(state, key):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.do_POST()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = 401, {"error": "the key is missing or wrong"}
            if self.headers.get("Authorization") == f"Bearer {key}":
                status, said = state.answer(self.path.partition("?")[0], json.loads(body or b"null"))
            text = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ends-with")
    parser.add_argument("folder")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    arguments, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    state = State(arguments.folder)
    server = ThreadingHTTPServer((arguments.host, arguments.port), handler(state, os.environ["VLLM_API_KEY"]))
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
