"""Vectors from an encoder: what they are, what learns from them, and encoders that are gone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from encoders import save_bert, save_sentence_transformer
from toy import world

from codegen.errors import ConfigError, ModelError
from codegen.sqlnet.decode import Slots
from codegen.sqlnet.examples import Question, batch_of, label, targets_of, words_in
from codegen.sqlnet.features import EncodedQuestion, encode_question
from codegen.sqlnet.layout import losses
from codegen.sqlnet.metrics import predict, score
from codegen.sqlnet.network import Network, NetworkConfig
from codegen.sqlnet.parser import DEFAULT_MODEL, SQLNet
from codegen.sqlnet.query import Column, Condition, Query, Table
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.training import Epoch, TrainingConfig, train
from codegen.sqlnet.vectors import ContextEncoder, random_vectors

TABLE = Table("t", (Column("playerName"), Column("age", "real"), Column("home_city")))
TEXTS = (
    "which player  lives in Paris",
    "what is the age of Zoë-Ann 25?",
    "岡 lives in Rome",  # a sign that the tokenizer has no piece for
    "home city",
)
ITEMS, _ = world(240)
NEW, _ = world(40, seed=1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(bert: Path) -> ContextEncoder:
    return ContextEncoder.load(bert)


def by_hand(folder: Path, text: str, begin: int, end: int) -> torch.Tensor:
    """The scaled mean of the states of the pieces that hold a sign of text[begin:end]."""
    from transformers import AutoTokenizer, BertModel

    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder)
    read = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model.eval()(**read).last_hidden_state[0]
    held = {read.char_to_token(i) for i in range(begin, end)} - {None}
    if not held:
        return torch.zeros(states.shape[1])
    mean = torch.stack([states[i] for i in sorted(held)]).mean(0)
    return mean / mean.pow(2).mean().sqrt()


def test_a_vector_is_the_mean_of_the_pieces_of_its_token(
    bert: Path, encoder: ContextEncoder
) -> None:
    asked = [encode_question(text, TABLE) for text in TEXTS]
    context = encoder.context_of(asked)
    for row, item in enumerate(asked):
        for i, token in enumerate(item.tokens):
            expected = by_hand(bert, item.text, token.start, token.end)
            torch.testing.assert_close(context.tokens[row, i], expected, rtol=2e-3, atol=2e-3)
        assert not context.tokens[row, len(item.tokens) :].any()
    for row, name in enumerate(("player name", "age", "home city")):
        expected = by_hand(bert, name, 0, len(name))
        torch.testing.assert_close(context.names[row], expected, rtol=2e-3, atol=2e-3)


def test_the_same_word_differs_by_its_context(encoder: ContextEncoder) -> None:
    one, other = encoder.context_of(
        [encode_question("age of Kim", TABLE), encode_question("age of Rome", TABLE)]
    ).tokens
    assert not torch.equal(one[0], other[0])


def test_long_questions_and_odd_names_are_read(encoder: ContextEncoder) -> None:
    odd = Table("t", (Column("岡"), Column("?"), Column("x" * 300)))
    asked = [encode_question(text, odd) for text in ("age " * 300, "岡 岡", "\u200b.", "a\x00b")]
    context = encoder.context_of(asked)
    assert context.tokens.isfinite().all() and context.names.isfinite().all()
    assert context.tokens[0, 5].any() and not context.tokens[0, 150].any()  # beyond 62 pieces


@pytest.mark.parametrize(
    ("sub", "kinds"),
    [
        ("", "sentence_transformers.models"),
        ("0_Transformer", "sentence_transformers.models"),
        ("", "sentence_transformers.base.modules.transformer"),
    ],
)
def test_a_sentence_transformer_is_the_encoder_in_it(
    tmp_path: Path, encoder: ContextEncoder, sub: str, kinds: str
) -> None:
    folder = save_sentence_transformer(tmp_path / "st", sub=sub, kinds=kinds)
    found = ContextEncoder.load(folder)
    assert found.config == replace(encoder.config, path=str(folder))
    asked = [encode_question(text, TABLE) for text in TEXTS]
    for one, other in zip(encoder.context_of(asked), found.context_of(asked), strict=True):
        assert torch.equal(one, other)


def test_the_digest_follows_the_weights_not_their_file(tmp_path: Path, bert: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    digest = ContextEncoder.load(bert).config.digest

    def digest_with(changed: dict[str, torch.Tensor]) -> str:
        folder = tmp_path / "copy"
        shutil.copytree(bert, folder, dirs_exist_ok=True)
        save_file(changed, folder / "model.safetensors", {"format": "pt", "by": "another"})
        return ContextEncoder.load(folder).config.digest

    unpooled = {name: t for name, t in weights.items() if not name.startswith("pooler")}
    assert digest_with(weights) == digest_with(unpooled) == digest
    name = "encoder.layer.1.output.dense.bias"
    assert digest_with({**weights, name: weights[name] + 1e-6}) != digest


def test_a_decoder_with_byte_level_pieces_serves_too(tiny_model_dir: Path) -> None:
    found = ContextEncoder.load(tiny_model_dir)
    asked = [encode_question(text, TABLE) for text in TEXTS]
    together = found.context_of(asked).tokens
    assert found.config.width == 48
    for row, item in enumerate(asked):
        alone = ContextEncoder.load(tiny_model_dir).context_of([item]).tokens[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=2e-3, atol=2e-3)
        assert alone.any(-1).all()


def network(encoder: ContextEncoder) -> Network:
    torch.manual_seed(0)
    config = NetworkConfig(hidden=24, encoder=encoder.config)
    found = Network.build(config, random_vectors(words_in(ITEMS), 16, seed=0), encoder)
    found.model.eval()
    return found


def read(found: Network, *asked: EncodedQuestion) -> list[Slots]:
    return found.read(asked, beam=2)


def test_a_question_is_read_alike_alone_and_in_a_batch(encoder: ContextEncoder) -> None:
    found = network(encoder)
    asked = [encode_question(text, TABLE) for text in TEXTS]
    for item, together in zip(asked, read(found, *asked), strict=True):
        (alone,) = read(found, item)
        torch.testing.assert_close(alone.select, together.select, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(alone.where, together.where, rtol=1e-3, atol=1e-3)


def test_permuting_columns_permutes_the_outputs(encoder: ContextEncoder) -> None:
    found, order = network(encoder), [2, 0, 1]
    permuted = replace(TABLE, columns=tuple(TABLE.columns[i] for i in order))
    for text in TEXTS:
        (one,), (other,) = (
            read(found, encode_question(text, TABLE)),
            read(found, encode_question(text, permuted)),
        )
        for name in ("select", "aggregate", "where", "operator"):
            torch.testing.assert_close(getattr(one, name)[order], getattr(other, name))
        torch.testing.assert_close(one.number, other.number)


def test_the_vectors_count_and_the_projection_learns_but_not_the_encoder(
    encoder: ContextEncoder,
) -> None:
    found = network(encoder)
    query = Query(0, 0, (Condition(2, 0, "Paris"),))
    items = label([Question("0", "which player lives in Paris", TABLE, query)])
    batch = batch_of([item.question for item in items], found.vocabulary, encoder)
    assert batch.context is not None

    def loss(context: Any) -> torch.Tensor:
        states = found.model.encode(batch._replace(context=context))
        parts = losses(found.model, states, targets_of(items), batch.column_mask, 1.0)
        return torch.stack(list(parts.values())).sum()

    none = batch.context._replace(tokens=torch.zeros_like(batch.context.tokens))
    assert loss(batch.context) != loss(none)
    loss(batch.context).backward()
    assert found.model.encoder.context.weight.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in encoder._model.parameters())
    assert not any("bert" in name or "layer." in name for name in found.model.state_dict())


CONFIG = TrainingConfig(
    epochs=12, batch_size=16, learning_rate=8e-3, alpha=1.0, mean=0.9, patience=12
)


class Stopped(Exception):
    pass


def run(out: Path, encoder: ContextEncoder, stop_after: int = 99) -> Network:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise Stopped

    config = replace(CONFIG, network=NetworkConfig(hidden=32, dropout=0.1, encoder=encoder.config))
    vectors = random_vectors(words_in(ITEMS), 16, seed=0)
    return train(config, vectors, ITEMS, NEW, out, encoder=encoder, on_epoch=on_epoch)


@pytest.fixture(scope="module")
def trained(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path, int]:
    """A trained network, its directory, and how often the encoder ran from the first step on."""
    out, encoder = tmp_path_factory.mktemp("trained"), ContextEncoder.load(bert)
    encoder.remember(item.question for item in (*ITEMS, *NEW))
    runs: list[int] = []
    encoder._model.register_forward_hook(lambda *_: runs.append(1))
    return run(out, encoder), out, len(runs)


def test_it_learns_and_reads_each_text_once(trained: tuple[Network, Path, int]) -> None:
    network, _, runs = trained
    other, _ = world(60, seed=2)
    assert score(predict(network, other), other).query_match > 0.6
    assert runs == 0


def test_a_kept_network_finds_its_encoder_and_predicts_the_same(
    trained: tuple[Network, Path, int],
) -> None:
    network, out, _ = trained
    again = Network.load(out)
    assert again.config == network.config and predict(again, NEW) == predict(network, NEW)
    parse = SQLNet(again).parse("what is the age of Kim?", Schema((NEW[0].question.table,)))
    assert parse.readings


def test_a_run_that_was_cut_off_goes_on_though_its_encoder_was_moved(
    tmp_path: Path, bert: Path, trained: tuple[Network, Path, int]
) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "parts", ContextEncoder.load(bert), stop_after=3)
    moved = shutil.copytree(bert, tmp_path / "moved")
    parts = run(tmp_path / "parts", ContextEncoder.load(moved))
    for name, weight in trained[0].model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name


def test_an_encoder_that_is_gone_or_changed_gets_one_line_with_the_remedy(
    tmp_path: Path, bert: Path, trained: tuple[Network, Path, int]
) -> None:
    network, out, _ = trained
    held = shutil.copytree(out, tmp_path / "held")
    row = json.loads((held / "config.json").read_text())
    row["network"]["encoder"]["path"] = str(tmp_path / "gone")
    (held / "config.json").write_text(json.dumps(row))
    wide, other = save_bert(tmp_path / "wide", width=48), save_bert(tmp_path / "other", seed=1)
    for given, what in [
        (None, "is no longer in"),
        (tmp_path / "nowhere", "is not a folder with an encoder"),
        (wide, "gives vectors of width 48; the SQL network in .* reads 32"),
        (other, "has other weights or words"),
    ]:
        with pytest.raises(ModelError, match=what) as caught:
            Network.load(held, given)
        assert caught.value.remedy and "\n" not in str(caught.value)
    assert predict(Network.load(held, bert), NEW) == predict(network, NEW)
    shutil.copytree(bert, held / "encoder")
    assert predict(Network.load(held), NEW) == predict(network, NEW)
    shutil.rmtree(held / "encoder")
    shutil.copytree(other, held / "encoder")
    with pytest.raises(ModelError, match="has other weights or words"):
        Network.load(held)


def test_encoders_stay_where_they_belong(encoder: ContextEncoder, bert: Path) -> None:
    assert Network.load(DEFAULT_MODEL).encoder is None
    with pytest.raises(ConfigError, match="reads no encoder"):
        Network.load(DEFAULT_MODEL, bert)
    with pytest.raises(ConfigError, match="layout 'paper' reads no encoder"):
        NetworkConfig("paper", encoder=encoder.config)
    vectors = random_vectors(["a"], 8, seed=0)
    with pytest.raises(ConfigError, match="not the one"):
        Network.build(NetworkConfig(hidden=24), vectors, encoder)
    with pytest.raises(ConfigError, match="not the one"):
        Network.build(NetworkConfig(hidden=24, encoder=encoder.config), vectors)


def damaged(tmp_path: Path, bert: Path) -> Sequence[tuple[Path, str]]:
    from safetensors.torch import load_file, save_file
    from transformers import T5Config, T5Model

    def copy(name: str) -> Path:
        return Path(shutil.copytree(bert, tmp_path / name))

    (tmp_path / "empty").mkdir()
    static, listed = save_sentence_transformer(tmp_path / "static"), '[{"type": "x.y.Static"}]'
    (static / "modules.json").write_text(listed)
    broken = save_sentence_transformer(tmp_path / "broken")
    (broken / "modules.json").write_text("{")
    pickled, cut, lacking = copy("pickled"), copy("cut"), copy("lacking")
    weights = load_file(bert / "model.safetensors")
    torch.save(weights, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    raw = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    mute = copy("mute")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (mute / name).unlink()
    small = save_bert(tmp_path / "small", pieces=50)
    pair = copy("pair")
    two_sided = T5Config(
        vocab_size=110, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, num_decoder_layers=1
    )
    T5Model(two_sided).save_pretrained(pair)
    odd = copy("odd")
    (odd / "config.json").write_text('{"model_type": "nothing-known"}')
    return [
        (tmp_path / "missing", "is not a folder with an encoder"),
        (tmp_path / "empty", "neither modules.json nor config.json"),
        (bert / "config.json", "is not a folder with an encoder"),
        (static, "lists no Transformer, but Static"),
        (broken, r"modules\.json can't be read"),
        (pickled, "does not load"),
        (cut, "does not load"),
        (lacking, "lack 1 tensors, encoder.layer.0.output.dense.weight"),
        (mute, "holds no tokenizer"),
        (small, "has word pieces that its model has no vectors for"),
        (pair, "can't read a text by itself"),
        (odd, "not in the installed transformers"),
    ]


def test_directories_that_hold_no_such_encoder_are_named(tmp_path: Path, bert: Path) -> None:
    for path, what in damaged(tmp_path, bert):
        with pytest.raises(ModelError, match=what) as caught:
            ContextEncoder.load(path)
        assert "\n" not in str(caught.value), path
