"""Chat templates that read lists of parts only, and stand with the processor alone: the published LLaVA models."""

from pathlib import Path

from amft.data.conversation import UserTurns
from amft.data.encoding import encode_demonstration, encode_prompt
from amft.models.load import lend_template, load_pictures, load_tokenizer
from amft.models.pictures import Pictures
from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor
from amft.tasks.registry import build_task

PARTS_ONLY = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TASK = build_task("general_points_vl", size=112, max_attempts=2, revisions=1.0)


def processor_of():
    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=28)
    processor.tokenizer.chat_template = processor.chat_template = PARTS_ONLY
    return processor


def test_prompt_demonstration_and_turns_are_whole():
    processor = processor_of()
    tokenizer, pictures = processor.tokenizer, Pictures(processor)
    problem = TASK.problems("train", n=1)[0]
    prompt, answer = TASK.prompt(problem), TASK.demonstrate(problem)
    ids, completion = encode_demonstration(
        tokenizer, prompt, [{"role": "assistant", "content": answer}], pictures=pictures
    )
    assert ids == encode_prompt(tokenizer, prompt, pictures)
    text = tokenizer.decode(ids).replace("<image>" * 4, "<image>")
    assert text == f"USER: <image>\n{prompt[0]['content'][1]['text']} ASSISTANT:"
    assert tokenizer.decode(completion[:-1]).strip() == answer
    assert completion[-1] == tokenizer.eos_token_id
    turn = UserTurns(tokenizer).reply("Again.", last=0)
    assert tokenizer.decode(turn) == " USER: Again. ASSISTANT:"


def test_a_template_of_the_processor_alone_is_lent_to_the_tokenizer(tmp_path: Path):
    processor = processor_of()
    tiny_vision_model(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    tokenizer, pictures = load_tokenizer(str(tmp_path)), load_pictures(str(tmp_path))
    tokenizer.chat_template = None
    lend_template(tokenizer, pictures)
    assert tokenizer.chat_template == PARTS_ONLY
    tokenizer.chat_template = "own"
    lend_template(tokenizer, pictures)
    lend_template(tokenizer, None)
    assert tokenizer.chat_template == "own"
