"""The whole command against servers that others wrote: `make peers` installs them and runs these tests."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import JobError
from pipeline.local import find_weights, open_local_server
from tests.peers.jobs import CANARY, Peer, Result, run_job
from tests.peers.servers import aimock, llmock

pytestmark = pytest.mark.anyio


def test_llmock_answers_every_row_in_every_dialect(tmp_path: Path) -> None:
    """Chat, responses, Anthropic, Gemini and Mistral give each row its own answer, in spite of errors and a rate limit."""
    with llmock(tmp_path, "--rpm", "600", "--error-rate", "503=0.1", "--error-rate", "429=0.1") as url:
        peers = {
            "chat": Peer("openai", f"{url}/v1"),
            "responses": Peer("openai-responses", f"{url}/v1"),
            "anthropic": Peer("anthropic", f"{url}/anthropic/v1", "claude-haiku-4-5"),
            "gemini": Peer("gemini", f"{url}/gemini/v1beta", "gemini-2.5-flash"),
            "mistral": Peer("openai", f"{url}/mistral/v1", "mistral-small-latest"),
        }
        result = run_job(tmp_path, peers, [f"Word number {number}." for number in range(10)])

    assert result.exit_code == 0, result.told
    prompts, answers = result.column("prompt"), result.column("llm_answer")
    assert all(prompt in answer for prompt, answer in zip(prompts, answers, strict=True))
    assert set(result.column("llm_usage")) == {"measured"}
    assert all(cost > 0 for cost in result.column("llm_cost_usd"))
    assert CANARY.encode() not in result.artefacts


def test_aimock_answers_every_row_in_every_dialect(tmp_path: Path) -> None:
    """Azure besides; it drops, cuts and refuses a part of the requests, and counts tokens for none but chat."""
    chaos = (
        "--chaos-drop",
        "0.1",
        "--chaos-malformed",
        "0.1",
        "--chaos-disconnect",
        "0.05",
        "--chaos-ratelimit",
        "0.1",
    )
    with aimock(tmp_path, *chaos) as url:
        peers = {
            "chat": Peer("openai", f"{url}/v1"),
            "azure": Peer("azure", f"{url}/openai", "a deployment"),
            "responses": Peer("openai-responses", f"{url}/v1", "gpt-5"),
            "anthropic": Peer("anthropic-2026-10-21", f"{url}/v1", "claude-haiku-4-5"),
            "gemini": Peer("gemini", f"{url}/v1beta", "gemini-3-flash"),
        }
        result = run_job(tmp_path, peers, [f"Colour of banana {number}?" for number in range(6)])

    assert result.exit_code == 0, result.told
    assert set(result.column("llm_answer")) == {"yellow"}
    usages = set(zip(result.column("dialect"), result.column("llm_usage"), strict=True))
    assert {usage for dialect, usage in usages if dialect in ("chat", "azure")} == {"measured"}
    assert {usage for dialect, usage in usages if dialect not in ("chat", "azure")} == {"invalid"}
    assert all(cost > 0 for cost in result.column("llm_cost_usd"))
    assert CANARY.encode() not in result.artefacts


def test_llmock_answers_every_row_in_batches(tmp_path: Path) -> None:
    """OpenAI's and Anthropic's batches give each row its own answer at half price, in spite of errors and a rate limit."""
    with llmock(tmp_path, "--rpm", "600", "--error-rate", "503=0.1", "--error-rate", "429=0.1") as url:
        peers = {
            "chat": Peer("openai", f"{url}/v1", batch="openai"),
            "anthropic": Peer("anthropic", f"{url}/anthropic/v1", "claude-haiku-4-5", batch="anthropic"),
        }
        result = run_job(tmp_path, peers, [f"Word number {number}." for number in range(10)])

    assert result.exit_code == 0, result.told
    prompts, answers = result.column("prompt"), result.column("llm_answer")
    assert all(prompt in answer for prompt, answer in zip(prompts, answers, strict=True)), result.told
    assert set(result.column("llm_usage")) == {"measured"}
    assert _batch_costs(result) == result.column("llm_cost_usd")
    assert CANARY.encode() not in result.artefacts


def test_aimock_answers_every_row_in_batches(tmp_path: Path) -> None:
    """A batch gives every row an answer at half price: a fixed one, for unlike a provider aimock reads no prompt in it."""
    with aimock(tmp_path) as url:
        peers = {"chat": Peer("openai", f"{url}/v1", batch="openai")}
        result = run_job(tmp_path, peers, [f"Colour of banana {number}?" for number in range(6)])

    assert result.exit_code == 0, result.told
    assert set(result.column("llm_answer")) == {"Mock batch completion"}
    assert set(result.column("llm_usage")) == {"measured"}
    assert _batch_costs(result) == result.column("llm_cost_usd")
    assert CANARY.encode() not in result.artefacts


def _batch_costs(result: Result) -> list[Decimal]:
    """Return what the rows cost by hand: 1 USD a million tokens in and 2 out, and half of that."""
    tokens = zip(result.column("llm_input_tokens"), result.column("llm_output_tokens"), strict=True)
    return [Decimal(put + 2 * got) / 2_000_000 for put, got in tokens]


async def test_llama_cpp_keeps_to_a_form_in_every_dialect(tmp_path: Path) -> None:
    """A real model behind chat, responses and Anthropic messages: answers, tokens, and a schema held by its grammar."""
    try:
        find_weights()
    except JobError as error:
        pytest.skip(str(error))
    async with open_local_server(tmp_path / "llama.log", slots=2) as url:
        peers = {
            "chat": Peer("openai", url, options='{ json_schema = "bare" }'),
            "responses": Peer("openai-responses", url),
            "anthropic": Peer("anthropic", url),
        }
        free = tmp_path / "free"
        free.mkdir()
        told = run_job(free, peers, ["Say hello to Ann."], prompt='system = "You are brief."')
        form = tmp_path / "form"
        form.mkdir()
        schema = '[output.schema]\ntype = "object"\nrequired = ["mood", "stars"]\nadditionalProperties = false\n[output.schema.properties]\nmood = { enum = ["good", "bad"] }\nstars = { type = "integer", minimum = 1, maximum = 5 }'
        held = run_job(form, {"chat": peers["chat"]}, ["I love it.", "I hate it."], more=schema)

    assert told.exit_code in (0, 1), told.told
    assert set(told.column("llm_status")) <= {"ok", "truncated"}
    assert all(told.column("llm_answer"))
    assert set(told.column("llm_usage")) == {"measured"}
    assert held.exit_code == 0, held.told
    assert held.outputs.schema.field("llm_mood").type == pa.string()
    assert held.outputs.schema.field("llm_stars").type == pa.int64()
    assert set(held.column("llm_mood")) <= {"good", "bad"}
    assert set(held.column("llm_attempts")) == {1}
    assert all(cost > Decimal(0) for cost in held.column("llm_cost_usd"))
