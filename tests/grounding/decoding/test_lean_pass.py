"""The lean pass through the language model against the stock one, number by number; fused weights; LoRA in a batch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.decoding.lora import LoraWeights, live_lora, read_lora
from grounding.decoding.text_model import TextModel
from grounding.errors import AdapterError

ATOL = 1e-4
GROUPS = {"qkv": ("q_proj", "k_proj", "v_proj"), "gate_up": ("gate_proj", "up_proj")}
LINEARS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def small_qwen3_vl(layers: int = 3, heads: int = 4, kv_heads: int = 2) -> Any:
    """A Qwen3-VL with random weights: grouped key heads, norms on queries and keys, deepstack on two layers."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    text = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 16,
        "vocab_size": 60,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000.0,
            "mrope_section": [2, 3, 3],
            "mrope_interleaved": True,
        },
    }
    vision = {"depth": 2, "num_heads": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 48}
    vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    model: Any = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision))
    randomise(model.named_parameters(), seed=1)
    return model.requires_grad_(False).eval()


def randomise(named: Any, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in named:
            if weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale / weight[0].numel() ** 0.5)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1 + 1.0)


@pytest.fixture
def model(one_thread: None) -> Any:
    return small_qwen3_vl()


def language(model: Any) -> Any:
    return model.model.language_model


@pytest.fixture
def text(model: Any) -> TextModel:
    return TextModel(language(model), model.lm_head)


def causal(new: int, before: int = 0) -> torch.Tensor:
    return torch.ones(new, before + new, dtype=torch.bool).tril(before)


def axes_of(size: int, begin: int = 0) -> torch.Tensor:
    """[3, size] positions that differ by axis, as those of a picture do."""
    line = torch.arange(begin, begin + size)
    return torch.stack([line, line // 2 + begin, line % 3 + begin])


def stock_states(
    model: Any, embeddings: torch.Tensor, positions: torch.Tensor, deepstack: Any = None, places: Any = None
) -> torch.Tensor:
    """[tokens, hidden] before the last norm, of one sequence without padding."""
    stack, states = language(model), []
    handle = stack.norm.register_forward_pre_hook(lambda module, args: states.append(args[0]))
    stack(
        inputs_embeds=embeddings[None],
        position_ids=positions[:, None],
        visual_pos_masks=places,
        deepstack_visual_embeds=deepstack,
        use_cache=False,
    )
    handle.remove()
    return states[0][0]


def tokens(count: int, seed: int) -> torch.Tensor:
    return torch.randint(2, 60, (count,), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def lean_states(
    text: TextModel, embeddings: torch.Tensor, positions: torch.Tensor, adapters: Any = None
) -> torch.Tensor:
    cache = text.new_cache(1, len(embeddings))
    return text.extend(embeddings[None], positions[:, None], causal(len(embeddings))[None], cache, adapters)[0]


# --- numbers ---


@pytest.mark.parametrize("chunks", [(12,), (1,) * 12, (5, 1, 6), (2, 10)])
@pytest.mark.parametrize("room", [1, 12, 40])
@torch.inference_mode()
def test_states_in_chunks_with_a_growing_cache(model: Any, text: TextModel, chunks: tuple[int, ...], room: int) -> None:
    embeddings, positions = text.embed(tokens(12, 3)), axes_of(12)
    expected = stock_states(model, embeddings, positions)
    cache, begin, parts = text.new_cache(1, room), 0, []
    for size in chunks:
        end = begin + size
        mask = causal(size, begin)[None]
        parts.append(text.extend(embeddings[None, begin:end], positions[:, None, begin:end], mask, cache)[0])
        begin = end
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(parts), expected, atol=ATOL, rtol=ATOL)


@torch.inference_mode()
def test_logits_are_the_stock_models(model: Any, text: TextModel) -> None:
    ids, positions = tokens(9, 4), axes_of(9)
    outputs = model(input_ids=ids[None], position_ids=positions[:, None], use_cache=False).logits[0]
    states = lean_states(text, text.embed(ids), positions)
    some = [5, 0, 59, 17]
    torch.testing.assert_close(text.logits(states, text.head_of(some)), outputs[:, some], atol=ATOL, rtol=ATOL)
    assert text.head_of([59]).tolist() != text.head_of([58]).tolist()


@torch.inference_mode()
def test_padded_rows_and_deepstack(model: Any, text: TextModel) -> None:
    """Rows of 7 and 11 columns beside each other, each with a picture on which two levels are added."""
    sizes, visual = (7, 11), ((1, 2, 3), (2, 3, 4, 5))
    rows = [text.embed(tokens(size, 10 + size)) for size in sizes]
    generator = torch.Generator().manual_seed(6)
    levels = [[torch.randn(len(places), 48, generator=generator) for places in visual] for _ in range(2)]
    expected = []
    for row, size in enumerate(sizes):
        mask = torch.zeros(1, size, dtype=torch.bool)
        mask[0, list(visual[row])] = True
        mine = [level[row] for level in levels]
        expected.append(stock_states(model, rows[row], axes_of(size), mine, mask))
    width = max(sizes)
    embeddings = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, width - len(row)), value=9.0) for row in rows])
    real = torch.arange(width) < torch.tensor(sizes)[:, None]
    positions = torch.stack([axes_of(width)] * 2, dim=1)
    flat = torch.tensor([row * width + place for row, places in enumerate(visual) for place in places])
    cache = text.new_cache(2, width)
    states = text.extend(
        embeddings,
        positions,
        causal(width) & real[:, None],
        cache,
        None,
        (flat, [torch.cat(level) for level in levels]),
    )
    for row, size in enumerate(sizes):
        torch.testing.assert_close(states[row, :size], expected[row], atol=ATOL, rtol=ATOL)


@torch.inference_mode()
def test_a_shared_prefix_serves_several_endings(model: Any, text: TextModel) -> None:
    """Rows picked from a cache, one twice, go on as if each had read the whole by itself."""
    prefixes = [text.embed(tokens(6, seed)) for seed in (1, 2)]
    cache = text.new_cache(2, 6)
    text.extend(torch.stack(prefixes), torch.stack([axes_of(6)] * 2, dim=1), causal(6).expand(2, -1, -1), cache)
    cache.visible[:, :6] = True
    owners = torch.tensor([1, 0, 1])
    picked = cache.pick(owners, 7)  # too small for what follows
    endings = [text.embed(tokens(4, 20 + row)) for row in range(3)]
    positions = axes_of(4, begin=6)
    mask = causal(4, 6).expand(3, -1, -1)
    states = text.extend(torch.stack(endings), torch.stack([positions] * 3, dim=1), mask, picked)
    assert (cache.length, picked.length, picked.visible[:, :6].all()) == (6, 10, torch.tensor(True))
    for row, owner in enumerate(owners.tolist()):
        whole = torch.cat([prefixes[owner], endings[row]])
        expected = stock_states(model, whole, torch.cat([axes_of(6), positions], dim=1))[6:]
        torch.testing.assert_close(states[row], expected, atol=ATOL, rtol=ATOL)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@torch.inference_mode()
def test_key_heads_shared_by_several_query_heads(one_thread: None, kv_heads: int) -> None:
    grouped = small_qwen3_vl(kv_heads=kv_heads)
    embeddings, positions = language(grouped).get_input_embeddings()(tokens(10, 8)), axes_of(10)
    expected = stock_states(grouped, embeddings, positions)
    text = TextModel(language(grouped), grouped.lm_head)
    assert text.agrees()
    torch.testing.assert_close(lean_states(text, embeddings, positions), expected, atol=ATOL, rtol=ATOL)


@pytest.mark.parametrize("broken", ["rope", "norm", "order"])
def test_a_pass_that_computes_something_else_does_not_agree(text: TextModel, broken: str) -> None:
    assert text.agrees()
    if broken == "rope":
        rotary = text.stock.rotary_emb
        text.extend, extend = (  # type: ignore[method-assign]
            lambda e, p, *rest: extend(e, p * 2, *rest),
            text.extend,
        )
        assert rotary is text.stock.rotary_emb
    elif broken == "norm":
        weight, eps = text.norm
        text.norm = (weight * 1.01, eps)
    else:
        text.layers.reverse()
    assert not text.agrees()


def test_layers_it_does_not_know_are_named(model: Any) -> None:
    language(model).config.hidden_act = "gelu"
    with pytest.raises(ValueError, match="the activation gelu"):
        TextModel(language(model), model.lm_head)
    language(model).config.hidden_act = "silu"
    language(model).config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="sliding_attention"):
        TextModel(language(model), model.lm_head)


# --- weights in one tensor ---


def fused_modules(model: Any) -> list[list[torch.nn.Linear]]:
    return [
        [getattr(getattr(layer, "self_attn" if group == "qkv" else "mlp"), part) for part in parts]
        for layer in language(model).layers
        for group, parts in GROUPS.items()
    ]


@torch.no_grad()
def test_fusing_leaves_the_stock_model_as_it_was(model: Any) -> None:
    before = model(input_ids=tokens(9, 4)[None]).logits
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    TextModel(language(model), model.lm_head)
    assert torch.equal(model(input_ids=tokens(9, 4)[None]).logits, before)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("times", [1, 3])
def test_fused_weights_exist_once(model: Any, times: int) -> None:
    """The stock layers look into the fused tensor, however many lean passes look at them."""
    texts = [TextModel(language(model), model.lm_head) for _ in range(times)]
    for modules in fused_modules(model):
        weights = [module.weight for module in modules]
        assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
        assert weights[0].untyped_storage().nbytes() == sum(weight.numel() * 4 for weight in weights)
    with torch.inference_mode():
        fused_modules(model)[0][1].weight.mul_(1.5)  # what changes in the one changes in the others
        assert all(text.agrees() for text in texts)
        fused_modules(model)[1][0].weight.mul_(1.5)
        assert all(text.agrees() for text in texts)


def test_training_goes_on_after_fusing(model: Any, text: TextModel) -> None:
    """The weights are plain leaves without gradient, and LoRA on them learns."""
    assert all(
        type(weight) is torch.nn.Parameter and weight.is_leaf and weight.grad is None and not weight.requires_grad
        for weight in model.parameters()
    )
    assert not any(weight.is_inference() for weight in model.parameters())
    tuned = with_lora(model, r=2, target_modules=LINEARS)
    trained = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    ids, losses = tokens(12, 5)[None], []
    base = [weight.clone() for modules in fused_modules_of(tuned) for weight in modules]
    for _ in range(6):
        loss = tuned(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(*pair) for pair in zip(base, [w for m in fused_modules_of(tuned) for w in m], strict=True))
    # What is being trained, beside the fused base: the same as peft's own forward.
    live = live_lora(language(model))
    assert live is not None
    with torch.inference_mode():
        positions = torch.arange(12).expand(3, -1)
        embeddings = text.embed(ids[0])
        expected = stock_states(model, embeddings, positions)
        rows = text.adapters([live], [0])
        torch.testing.assert_close(lean_states(text, embeddings, positions, rows), expected, atol=ATOL, rtol=ATOL)
        assert not torch.allclose(lean_states(text, embeddings, positions), expected, atol=ATOL, rtol=ATOL)


def fused_modules_of(tuned: Any) -> list[list[torch.Tensor]]:
    model = tuned.base_model.model
    return [[getattr(module, "base_layer", module).weight for module in modules] for modules in fused_modules(model)]


def test_no_adapter_is_active_none_is_live(model: Any) -> None:
    assert live_lora(language(model)) is None
    tuned = with_lora(model, target_modules=LINEARS)
    assert live_lora(language(model)) is not None
    with tuned.disable_adapter():
        assert live_lora(language(model)) is None


# --- adapters ---


def with_lora(model: Any, **settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, LoraConfig(**{"r": 3, "lora_alpha": 6, **settings}))


def saved(folder: Path, seed: int, **settings: Any) -> tuple[Path, Any]:
    """An adapter of random weights in a folder, and the model that has it through peft."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tuned = with_lora(small_qwen3_vl(), **settings)
    wanted = [(n, w) for n, w in tuned.named_parameters() if w.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in wanted:
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks the Hub for the vocabulary's size where embeddings are trained
        tuned.save_pretrained(str(folder), save_embedding_layers=False)
    return folder, tuned


PLAIN = {
    "usual": {"target_modules": LINEARS},
    "by name": {"target_modules": ["q_proj", "v_proj", "down_proj"], "exclude_modules": r".*visual.*"},
    "rslora": {"target_modules": LINEARS, "use_rslora": True, "r": 5},
    "alpha pattern": {"target_modules": LINEARS, "alpha_pattern": {"q_proj": 12, r"layers\.1\.mlp\.up_proj": 1}},
    "rank pattern": {
        "target_modules": LINEARS,
        "rank_pattern": {"v_proj": 7, "language_model.layers.2.mlp.down_proj": 1},
    },
    "both patterns, rslora": {
        "target_modules": LINEARS,
        "rank_pattern": {"v_proj": 7},
        "alpha_pattern": {"v_proj": 3},
        "use_rslora": True,
    },
    "one layer": {"target_modules": r".*language_model\.layers\.1\..*(q_proj|gate_proj)"},
    "layers to transform": {
        "target_modules": ["k_proj", "up_proj"],
        "layers_to_transform": [0, 2],
        "layers_pattern": "layers",
    },
    "gaussian": {"target_modules": LINEARS, "init_lora_weights": "gaussian"},
    "dropout": {"target_modules": LINEARS, "lora_dropout": 0.5},
}


@pytest.mark.parametrize("kind", PLAIN)
@torch.inference_mode()
def test_plain_adapters_are_pefts_own_forward(model: Any, text: TextModel, kind: str, tmp_path: Path) -> None:
    folder, tuned = saved(tmp_path / "adapter", 3, **PLAIN[kind])
    weights = read_lora("adapter", folder, language(model))
    assert weights is not None
    positions, embeddings = axes_of(10), text.embed(tokens(10, 7))
    expected = stock_states(tuned.eval().base_model.model, embeddings, positions)
    states = lean_states(text, embeddings, positions, text.adapters([weights], [0]))
    torch.testing.assert_close(states, expected, atol=2e-5, rtol=1e-5)
    assert (states - lean_states(text, embeddings, positions)).abs().max() > 1e-3


@torch.inference_mode()
def test_several_adapters_in_a_batch_are_each_alone(model: Any, text: TextModel, tmp_path: Path) -> None:
    """Adapters of other ranks, on other layers, in any order of rows, with the base between them."""
    read = [
        read_lora(kind, saved(tmp_path / kind, i, **PLAIN[kind])[0], language(model)) for i, kind in enumerate(PLAIN)
    ]
    weights = [one for one in read if one is not None]
    assert len(weights) == len(PLAIN)
    owners = [3, -1, 0, 6, 6, -1, *range(len(weights))]
    embeddings, positions = text.embed(torch.stack([tokens(8, 30 + row) for row in range(len(owners))])), axes_of(8)
    mask = causal(8).expand(len(owners), -1, -1)
    cache = text.new_cache(len(owners), 8)
    together = text.extend(
        embeddings, positions[:, None].expand(-1, len(owners), -1), mask, cache, text.adapters(weights, owners)
    )
    for row, owner in enumerate(owners):
        adapters = None if owner < 0 else text.adapters([weights[owner]], [0])
        alone = lean_states(text, embeddings[row], positions, adapters)
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_an_adapter_that_overflows_spoils_only_its_own_rows(model: Any, text: TextModel, tmp_path: Path) -> None:
    good = read_lora("good", saved(tmp_path / "good", 3, **PLAIN["usual"])[0], language(model))
    assert good is not None
    huge = LoraWeights({key: (a * torch.finfo(a.dtype).max / a.abs().max(), b) for key, (a, b) in good.factors.items()})
    assert huge.is_finite
    embeddings, positions = text.embed(torch.stack([tokens(8, 30 + row) for row in range(3)])), axes_of(8)
    mask, where = causal(8).expand(3, -1, -1), positions[:, None].expand(-1, 3, -1)
    together = text.extend(embeddings, where, mask, text.new_cache(3, 8), text.adapters([good, huge], [-1, 1, 0]))
    assert not together[1].isfinite().all()
    for row, adapters in ((0, None), (2, text.adapters([good], [0]))):
        alone = lean_states(text, embeddings[row], positions, adapters)
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


def test_rows_of_the_base_alone_need_no_adapters(text: TextModel) -> None:
    assert text.adapters([], [-1, -1]) is None
    assert text.adapters([LoraWeights({})], [-1]) is None


UNUSUAL = {
    "dora": {"target_modules": LINEARS, "use_dora": True},
    "lora bias": {"target_modules": LINEARS, "lora_bias": True},
    "vision": {"target_modules": ["q_proj", "qkv"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning", "ignore:.lora_bias=True")
@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_more_than_plain_lora_is_left_to_peft(model: Any, kind: str, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "adapter", 3, **UNUSUAL[kind])
    assert read_lora("adapter", folder, language(model)) is None


@pytest.mark.parametrize(
    "changed", [{"use_qalora": True}, {"target_parameters": ["experts.weight"]}, {"layer_replication": [[0, 2]]}]
)
def test_ways_of_computing_that_only_the_config_tells(model: Any, changed: dict[str, Any], tmp_path: Path) -> None:
    """The weights look like plain LoRA; what is done with them is not."""
    folder, _ = saved(tmp_path / "adapter", 3, target_modules=LINEARS)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert read_lora("adapter", folder, language(model)) is None


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "lora_ga"])
def test_an_adapter_that_comes_with_a_changed_base_is_refused(model: Any, init: str, tmp_path: Path) -> None:
    """These ways of beginning take a part of the base's weights into the adapter: on the base itself it is wrong."""
    folder, _ = saved(tmp_path / "adapter", 3, target_modules=LINEARS)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": init}))
    with pytest.raises(AdapterError, match=rf"'adapter'.*init_lora_weights='{init}'.*conversion"):
        read_lora("adapter", folder, language(model))


def test_weights_of_another_size_are_told(model: Any, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "adapter", 3, target_modules=LINEARS)
    larger = small_qwen3_vl(layers=4)
    with pytest.raises(AdapterError, match=r"weights are missing.*layers\.3"):
        read_lora("adapter", folder, language(larger))
    smaller = small_qwen3_vl(layers=2)
    with pytest.raises(AdapterError, match="7 of its weights are not of this model"):
        read_lora("adapter", folder, language(smaller))
    wider = small_qwen3_vl(kv_heads=4)
    with pytest.raises(AdapterError, match="k_proj have the shapes of another model"):
        read_lora("adapter", folder, language(wider))


def test_weights_move_to_another_number_type(model: Any, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "adapter", 3, target_modules=["q_proj"], exclude_modules=r".*visual.*")
    weights = read_lora("adapter", folder, language(model))
    assert weights is not None
    moved: Sequence[torch.Tensor] = [one for pair in weights.to("cpu", torch.bfloat16).factors.values() for one in pair]
    assert {one.dtype for one in moved} == {torch.bfloat16}
    assert len(moved) == 2 * 3
