"""Make labelled prompts from instruction templates and other texts, in wrappings that say nothing of the task."""

import random
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_SHORT_CHARS = 120
_WRAPPINGS = [
    "### Instruction:\n{}\n\n### Response:",
    "Below is an instruction. Write a response that completes the request.\n\n### Instruction:\n{}",
    "You are a helpful assistant.\n\n{}",
    "USER: {}\nASSISTANT:",
    "Human: {}\n\nAssistant:",
    "<|user|>\n{}\n<|assistant|>\n",
    "Instruction: {}\nOutput:",
    "Task: {}",
    "{}\n\nThanks!",
    "Hi! {}",
    "[INST] {} [/INST]",
    "# Task\n{}\n\n# Answer\n",
    "Please help me with this. {}",
    "Definition: {}\nOutput:",
    "{} Keep your answer short.",
    "I have a question for you. {}",
    "请完成以下任务：{}",
    "{}\n请给出回答。",
    "指示：{}\n応答：",
    "Instruction : {}\nRéponse :",
    "Anweisung: {}\nAntwort:",
    "Instrucción: {}\nRespuesta:",
    "Инструкция: {}\nОтвет:",
]


class Payloads:
    """Texts to put into a template. All tasks get the same ones, so that they say nothing of the task."""

    SLOTS = frozenset({"any", "anything", "short", "code", "long", "dialogue"})

    def __init__(self, frame: pl.DataFrame, fillers: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._rng = rng
        self._fillers = fillers
        self._code = frame.filter(kind="code")["text"].to_list()
        prose = frame.filter(kind="prose").partition_by("language", as_dict=True, maintain_order=True)
        self._prose = {str(language): part["text"].to_list() for (language,), part in prose.items()}
        self._short = {
            language: [text for text in texts if len(text) <= _SHORT_CHARS] for language, texts in self._prose.items()
        }

    def draw(self, slot: str, language: str) -> str:
        """Return a text for *slot*, mostly in the *language* of the template."""
        match slot:
            case "code":
                return self._rng.choice(self._code)
            case "short":
                return self._sentence(language)
            case "long":
                return self._long(language)
            case "dialogue":
                return self._dialogue(language)
            case _:
                return self._any(language, code=0.3 if slot == "anything" else 0.03)

    def _any(self, language: str, *, code: float) -> str:
        chance = self._rng.random()
        if chance < code:
            return self._rng.choice(self._code)
        if chance < 0.55:
            return self._from(self._prose, language)
        if chance < 0.7:
            return self._long(language)
        return self._rng.choice([self._words, self._dialogue, self._pair, self._fields, self._mail, self._numbers])(
            language
        )

    def _from(self, texts: Mapping[str, Sequence[str]], language: str) -> str:
        if self._rng.random() < 0.25 or not texts.get(language):
            language = self._rng.choice([name for name, some in texts.items() if some])
        return self._rng.choice(texts[language])

    def _sentence(self, language: str) -> str:
        return self._from(self._short, language)

    def _long(self, language: str) -> str:
        return " ".join(self._from(self._prose, language) for _ in range(self._rng.randint(2, 5)))

    def _pick(self, slot: str) -> str:
        return self._rng.choice(self._fillers[slot])

    def _words(self, language: str) -> str:  # noqa: ARG002
        words = [self._pick("word") for _ in range(self._rng.randint(3, 8))]
        return self._rng.choice([", ", "\n", "\n- ", "，", " / "]).join(words)

    def _dialogue(self, language: str) -> str:
        names = [self._pick("name"), self._pick("name")]
        turns = range(self._rng.randint(2, 6))
        return "\n".join(f"{names[turn % 2]}: {self._sentence(language)}" for turn in turns)

    def _pair(self, language: str) -> str:
        first, second = self._rng.choice(
            [("Sentence 1", "Sentence 2"), ("A", "B"), ("1.", "2."), ("Title", "Text"), ("Question", "Answer")]
        )
        return f"{first}: {self._sentence(language)}\n{second}: {self._sentence(language)}"

    def _fields(self, language: str) -> str:
        names = self._rng.sample(
            ["Name", "Age", "Topic", "Product", "Price", "Date", "City", "Goal", "Color", "Tone", "姓名", "主题"], 3
        )
        return "\n".join(
            f"{name}: {self._rng.choice([self._pick('word'), self._pick('num'), self._sentence(language)])}"
            for name in names
        )

    def _mail(self, language: str) -> str:
        return (
            f"Dear {self._pick('name')},\n\n{self._from(self._prose, language)}\n\nBest regards,\n{self._pick('name')}"
        )

    def _numbers(self, language: str) -> str:  # noqa: ARG002
        return self._pick("nums")


class Synthesis:
    """Prompts from templates; the same seed gives the same prompts."""

    def __init__(self, folder: Path, payloads: pl.DataFrame, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._fillers: Mapping[str, Sequence[str]] = tomllib.loads((folder / "fillers.toml").read_text("utf-8"))
        self._payloads = Payloads(payloads, self._fillers, self._rng)
        self._templates = {
            path.stem.removeprefix("templates_"): _read(path) for path in sorted(folder.glob("templates_*.txt"))
        }

    def prompts(self, per_template: Mapping[str, int], *, wrapped: float = 0.25) -> pl.DataFrame:
        """Return as many prompts a template of each language as said (of "" where none is), some of them wrapped."""
        rows = [
            (self._wrap(self._fill(template, language), wrapped), task, language, f"{language}/{task}/{number}")
            for language, by_task in self._templates.items()
            for task, templates in by_task.items()
            for number, template in enumerate(templates)
            for _ in range(per_template.get(language, per_template[""]))
        ]
        return pl.DataFrame(rows, schema=["text", "task", "language", "template"], orient="row")

    def _fill(self, template: str, language: str) -> str:
        text = template.replace("\\n", "\n")
        for _ in range(6):  # slots may hold slots and choices
            text = _CHOICE.sub(lambda found: self._rng.choice(found[1].split("|")), text)
            text, done = self._fill_once(text, language)
            if done:
                break
        return text

    def _fill_once(self, text: str, language: str) -> tuple[str, bool]:
        filled: list[str] = []

        def filler(found: re.Match[str]) -> str:
            slot = found[1]
            if slot in self._fillers:
                filled.append(slot)
                return self._rng.choice(self._fillers[slot])
            return found[0]

        text = _SLOT.sub(filler, text)
        if filled:
            return text, False
        return _SLOT.sub(
            lambda found: self._payloads.draw(found[1], language) if found[1] in Payloads.SLOTS else found[0],
            text,
        ), True

    def _wrap(self, text: str, share: float) -> str:
        if self._rng.random() < share:
            return self._rng.choice(_WRAPPINGS).replace("{}", text)
        return text

    def wrap_all(self, texts: Iterable[str], share: float) -> list[str]:
        """Return *texts*, a *share* of them wrapped."""
        return [self._wrap(text, share) for text in texts]


def _read(path: Path) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {}
    task = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("== "):
            task = line.removeprefix("== ")
        elif line and not line.startswith("# "):
            tasks.setdefault(task, []).append(line)
    return tasks
