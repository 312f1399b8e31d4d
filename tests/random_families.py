"""Models of every family with random configurations and weights, made by `transformers`, compared with fathom: the part of
make_families.py that --random calls.

fathom's architectures are types, so the models become a C++ program: fathom_describe turns each config.json into a constexpr config, or
refuses it; build folder's target random_families compiles one unit for each family. Of each model it compares

  logits and loss of 2 rows of tokens; the gradient of every tensor; logits behind a prompt and behind each greedy token of transformers,
  decoded one by one; the checkpoint that fathom writes, read by transformers; and the GGUF file that fathom writes, read by fathom

Faults are: logits off by more than 1e-4 of the largest; a gradient off by more than 1e-3 of the largest of its tensor (or, where that
is small, of 1e-3 times the model's largest), and by more than transformers' gradients in float differ from its own in double; a greedy token other than theirs, unless transformers' own logits of the two differ by
less than the 1e-4 that logits may be off, which is a near tie; a crash; and a refusal of what a fathom::config can express, or one that
does not name the key and the value that it cannot. About a third of the configurations have one such value.
"""
import json
import pathlib
import random
import subprocess

import torch
import transformers
from safetensors.torch import save_file

from make_families import set_weights

ROOT = pathlib.Path(__file__).parent.parent
EPSILONS = [1e-5, 1e-6, 1e-4, 1e-3, 2e-5, 1e-8, 0.01]


def rotary(r, families_own=None, may_scale=True):
    """Rotary parameters, and what of them no config of fathom can express."""
    given = dict(rope_type="default", rope_theta=float(r.choice([2, 500, 10000, 12345, 100000, 500000, 1000000, 10000000])))
    kind = r.choice(["default", "default", "linear", "llama3", "yarn"]) if may_scale else "default"
    if kind != "default":
        given.update(rope_type=kind, factor=float(r.choice([1, 2, 3, 4, 8, 40])))
    if kind in ("llama3", "yarn"):
        given.update(original_max_position_embeddings=r.choice([16, 32, 64, 100, 1024]))
    if kind == "llama3":
        low = r.choice([1, 2, 3])
        given.update(low_freq_factor=float(low), high_freq_factor=float(low + r.choice([1, 2, 4])))
    if kind == "yarn" and r.random() < 0.3:
        given.update(beta_fast=32.0, beta_slow=1.0)
    return given


def odd_rotary(r, given):
    """Changes rotary parameters so that no config can express them; (key, value), or None."""
    choices = [("rope_theta", 10000.5)]
    if given["rope_type"] != "default":
        choices += [("factor", 2.5)]
    if given["rope_type"] == "llama3":
        choices += [("low_freq_factor", 1.5)]
    if given["rope_type"] == "yarn":
        choices += [("beta_fast", 16.0), ("attention_factor", 1.3), ("truncate", False), ("beta_slow", 2.0)]
    key, value = r.choice(choices)
    given[key] = value
    return key, value


def shape(r, family):
    """Sizes that all families but gpt2 share."""
    heads = r.choice([1, 2, 3, 4, 6, 8])
    own_head = family not in ("gpt_neox", "olmo2") and r.random() < 0.5  # width of a head other than width / heads
    head = r.choice([2, 4, 6, 8, 10, 16, 18, 32])
    width = heads * (r.choice([1, 2, 3, 4, 5, 7]) if own_head else head)
    given = dict(vocab_size=r.choice([5, 17, 61, 64, 100, 257]), hidden_size=width, intermediate_size=r.choice([1, 3, 8, 20, 33, 64]),
                 num_hidden_layers=r.choice([1, 2, 3, 5]), num_attention_heads=heads, max_position_embeddings=r.choice([160, 200, 256, 1000]),
                 attention_dropout=0.0, tie_word_embeddings=r.random() < 0.5)
    if family != "gpt_neox":
        given.update(num_key_value_heads=r.choice([k for k in range(1, heads + 1) if heads % k == 0]), rms_norm_eps=r.choice(EPSILONS))
        if own_head or family in ("qwen3", "gemma3"):
            given.update(head_dim=head)
    return given, head


def configuration(r, family):
    """A random configuration, and (key, value) of what no config of fathom can express, or None."""
    odd = r.random() < 0.35
    if family == "gpt2":
        heads = r.choice([1, 2, 3, 4, 6])
        given = dict(vocab_size=r.choice([5, 17, 61, 64, 257]), n_positions=r.choice([160, 200, 256]), n_embd=heads * r.choice([1, 2, 3, 5, 8, 16]),
                     n_layer=r.choice([1, 2, 3]), n_head=heads, n_inner=r.choice([None, 1, 7, 32]), tie_word_embeddings=r.random() < 0.5,
                     activation_function=r.choice(["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]),
                     resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        unusual = r.choice([("activation_function", "gelu"), ("activation_function", "relu"), ("activation_function", "silu"), ("layer_norm_epsilon", 1e-6),
                            ("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True)]) if odd else None
        if unusual:
            given[unusual[0]] = unusual[1]
        return transformers.GPT2Config(**given), unusual
    given, head = shape(r, family)
    rope = rotary(r)
    unusual = None
    choices = [None]  # rotary
    epsilon = "layer_norm_eps" if family == "gpt_neox" else "rms_norm_eps"
    activation = "hidden_activation" if family == "gemma3" else "hidden_act"
    choices += [(epsilon, 3e-6), (activation, "relu"), (activation, "silu" if family in ("gemma3", "gpt_neox") else "gelu"), (activation, "gelu_new")]
    if family in ("llama", "qwen3", "olmo2", "gemma3"):
        choices.append(("attention_bias", True))
    if family == "llama":
        choices.append(("mlp_bias", True))
    if family == "mistral":
        given.update(sliding_window=r.choice([None, 1, 2, 7, 16, 63, 64, 65, 100, 4096]))
    if family in ("qwen2", "qwen3"):
        given.update(max_window_layers=r.choice([0, 1, 28]), sliding_window=r.choice([None, 8, 4096]))
        choices.append(("use_sliding_window", True))
    if family == "gpt_neox":
        head = given["hidden_size"] // given["num_attention_heads"]
        turned = r.choice([w for w in range(2, head + 1, 2)])
        rope["partial_rotary_factor"] = turned / head
        given.update(layer_norm_eps=r.choice(EPSILONS), hidden_dropout=0.0, hidden_act="gelu")
        choices += [("use_parallel_residual", False), ("attention_bias", False)]
    if family == "gemma3":
        depth = given["num_hidden_layers"] = r.choice([1, 2, 3, 5, 7])
        pattern = r.choice([1, 2, 3, 6, 100])
        local = dict(rope_type="default", rope_theta=float(r.choice([10000, 100, 3])))
        given.update(sliding_window=r.choice([1, 2, 9, 16, 63, 64, 100, 4096]), query_pre_attn_scalar=r.choice([1, 3, head, head, 256]),
                     layer_types=["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(depth)])
        choices += [("final_logit_softcapping", 3.0), ("attn_logit_softcapping", 2.5)]
        if depth >= 3:
            choices.append(("layer_types", ["full_attention"] + ["sliding_attention"] * (depth - 2) + ["full_attention"]))
    if odd:
        unusual = r.choice(choices) or odd_rotary(r, rope)
        if unusual[0] not in rope:
            given[unusual[0]] = unusual[1]
        if unusual[0] == "use_sliding_window":
            given.update(sliding_window=8, max_window_layers=0)
    given["rope_parameters"] = dict(full_attention=rope, sliding_attention=local) if family == "gemma3" else rope
    types = dict(llama="Llama", mistral="Mistral", qwen2="Qwen2", qwen3="Qwen3", gemma3="Gemma3Text", gpt_neox="GPTNeoX", olmo2="Olmo2")
    return getattr(transformers, types[family] + "Config")(**given), unusual


FAMILIES = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3", "gpt_neox", "olmo2"]


def written_otherwise(r, path):
    """Sometimes writes a config.json as older versions of transformers do: rope_theta and rope_scaling, keys at their default left out."""
    config = json.loads(path.read_text())
    rope = config.get("rope_parameters")
    family = config["model_type"]
    if rope and r.random() < 0.4:
        del config["rope_parameters"]
        if family == "gemma3_text":
            config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
            rope = rope["full_attention"]
            del config["layer_types"]
            pattern = [i for i, kind in enumerate(rope_types(config, path)) if kind == "full_attention"]
            config["sliding_window_pattern"] = pattern[0] + 1 if pattern else config["num_hidden_layers"] + 1
        if rope["rope_type"] in ("llama3", "yarn") and r.random() < 0.2:
            del rope["original_max_position_embeddings"]  # the model's context, then
        if rope["rope_type"] == "default" or r.random() < 0.7:
            config["rotary_emb_base" if family == "gpt_neox" else "rope_theta"] = rope.pop("rope_theta")
        elif family != "gpt_neox":
            config["rope_theta"] = 777.0  # that of rope_scaling counts
        if family == "gpt_neox":
            config["rotary_pct"] = rope.pop("partial_rotary_factor")
        if rope["rope_type"] != "default":
            if r.random() < 0.3:
                rope["type"] = rope.pop("rope_type")
            config["rope_scaling"] = rope
        else:
            config["rope_scaling"] = None
    standard = type(transformers.AutoConfig.for_model(family))().to_dict()
    for key in list(config):
        if key not in ("model_type", "architectures", "layer_types") and key in standard and standard[key] == config[key] and r.random() < 0.5:
            del config[key]
    path.write_text(json.dumps(config, indent=2))


def rope_types(config, path):
    return json.loads(path.read_text())["layer_types"]


def make(r, config, folder):
    torch.manual_seed(r.randrange(1 << 30))
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    set_weights(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    unusual_types = config.model_type == "gemma3_text" and getattr(config, "layer_types", None)
    irregular = unusual_types and len(unusual_types) > 2 and unusual_types[0] == unusual_types[-1] == "full_attention" and "sliding_attention" in unusual_types
    if not irregular:
        written_otherwise(r, folder / "config.json")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()

    room = config.max_position_embeddings if hasattr(config, "max_position_embeddings") else config.n_positions
    tokens = torch.randint(0, config.vocab_size, (2, r.choice([2, 7, 40, 70, min(150, room)])))
    result = model(tokens, labels=tokens)
    result.loss.backward()
    with torch.no_grad():
        prompt = r.choice([1, 2, 8, 30, 70])
        written = min(150, room) - prompt
        greedy, cache = torch.randint(0, config.vocab_size, (1, prompt)), None
        for _ in range(written):
            greedy = torch.cat([greedy, model(greedy, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
        greedy_logits = model(greedy, use_cache=False).logits[0, prompt - 1:]
    expected = {"tokens": tokens.to(torch.int32), "logits": result.logits.detach(), "loss": result.loss.detach().reshape(1),
                "greedy": greedy[0].to(torch.int32), "greedy_logits": greedy_logits}
    for key, parameter in model.named_parameters():
        expected["gradient." + key] = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    save_file({k: v.contiguous().clone() for k, v in expected.items()}, folder / "expected.safetensors")
    # How far transformers' own gradients in float are off: some of these models magnify rounding.
    gradients = [parameter.grad.double() for parameter in model.parameters() if parameter.grad is not None]
    model = model.double()
    model.zero_grad()
    model(tokens, labels=tokens).loss.backward()
    exact = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    floor = 1e-3 * max(g.abs().max() for g in exact)
    noise = float(max((a - b).abs().max() / max(b.abs().max(), floor) for a, b in zip(gradients, exact, strict=True)))
    return dict(tokens=tokens, noise=noise, logits=result.logits.detach(), greedy=greedy[0].tolist(), greedy_logits=greedy_logits, prompt=prompt)


def judge(line, made, folder, worst):
    """The faults of one model, as sentences."""
    if "error" in line:
        return ["error: " + line["error"]]
    faults = []
    largest = max(row[2] for row in line["gradients"])
    gradients = max((row[1] / max(row[2], 1e-3 * largest), row[0]) for row in line["gradients"])
    saved = transformers.AutoModelForCausalLM.from_pretrained(folder / "saved", attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        again = saved(made["tokens"]).logits
    found = {"logits": line["logits"], "loss": line["loss"], "decoded logits": line["decoded"], "gradients": gradients[0],
             "saved": float((again - made["logits"]).abs().max() / made["logits"].abs().max())}
    if "gguf" in line:
        found["gguf"] = line["gguf"]
    for what, off in found.items():
        worst[what] = max(worst.get(what, 0), off)
        if not off <= (max(1e-3, made["noise"]) if what == "gradients" else 1e-4):
            faults.append(f"{what} off by {off:.2g}" + (f" in {gradients[1]}" if what == "gradients" else ""))
    ties = 0
    scale = float(made["greedy_logits"].abs().max())
    for i, mine in enumerate(line["chosen"]):
        logits = made["greedy_logits"][i]
        if mine != int(logits.argmax()):
            gap = float(logits.max() - logits[mine]) / scale
            ties += 1
            if gap > 1e-4:
                faults.append(f"greedy token {i}: {mine}, expected {int(logits.argmax())}, whose logit is larger by {gap:.2g}")
                break
    worst["near ties"] = worst.get("near ties", 0) + ties
    return faults


def run(count, seed, folder, build):
    r = random.Random(seed)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    folder, build = (folder / str(seed)).resolve(), build.resolve()
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    all_models = {}
    for family in FAMILIES:
        for i in range(count):
            while True:
                config, unusual = configuration(r, family)
                name = f"{family}_{i}"
                try:
                    made = make(r, config, folder / name)
                    break
                except (RuntimeError, ValueError) as problem:  # transformers itself cannot
                    print(f"{name}: transformers: {str(problem).splitlines()[0]}; another configuration is taken")
                    subprocess.run(["rm", "-rf", str(folder / name)], check=True)
            all_models[name] = (made, unusual)
        (folder / f"{family}.cpp").write_text("")
    (folder / "main.cpp").write_text("")

    def compiled(target):
        subprocess.run(["cmake", "-S", str(ROOT), "-B", str(build), f"-DFATHOM_RANDOM_FAMILIES={folder}"], check=True, stdout=subprocess.DEVNULL)
        built = subprocess.run(["cmake", "--build", str(build), "--parallel", "1", "--target", target], capture_output=True, text=True)
        if built.returncode != 0:
            raise SystemExit(built.stdout[-20000:])
    compiled("random_families_describe")
    faults, refused, units = [], 0, {family: "" for family in FAMILIES}
    for name, (_, unusual) in all_models.items():
        described = subprocess.run([str(build / "tests" / "random_families_describe"), str(folder / name)], capture_output=True, text=True)
        if described.returncode == 0:
            units[name.rsplit("_", 1)[0]] += f'  compare<{described.stdout.strip()}>(folder / "{name}");\n'
            continue
        refused += 1
        says = described.stderr.strip()
        if described.returncode != 1 or not unusual:
            faults.append(f"{name}: refused: {says}")
        elif unusual[0] not in says or json.dumps(unusual[1]).replace(" ", "") not in says.replace(" ", ""):
            faults.append(f"{name}: refused without {unusual[0]} {json.dumps(unusual[1])}: {says}")
    for family, calls in units.items():
        (folder / f"{family}.cpp").write_text(f'#include "random_families.hpp"\nvoid compare_{family}([[maybe_unused]] const std::filesystem::path& folder) {{\n{calls}}}\n')
    (folder / "main.cpp").write_text(
        "#include <filesystem>\n" + "".join(f"void compare_{f}(const std::filesystem::path&);\n" for f in FAMILIES) +
        "int main(int, char** arguments) {\n  const std::filesystem::path folder(arguments[1]);\n" + "".join(f"  compare_{f}(folder);\n" for f in FAMILIES) + "}\n")
    compiled("random_families")
    ran = subprocess.run([str(build / "tests" / "random_families"), str(folder)], capture_output=True, text=True)
    lines = {line["model"]: line for line in map(json.loads, ran.stdout.splitlines())}
    if ran.returncode != 0:
        faults.append(f"the program ended with {ran.returncode} after {list(lines)[-1:]}: {ran.stderr[-2000:]}")
    worst = {"gradients in float and double, theirs": max(made["noise"] for made, _ in all_models.values())}
    for name, line in lines.items():
        faults += [f"{name}: {fault}" for fault in judge(line, all_models[name][0], folder / name, worst)]
    print(f"seed {seed}: {len(lines)} models compared, {refused} refused; largest errors: " +
          ", ".join(f"{what} {off if what == 'near ties' else format(off, '.1e')}" for what, off in worst.items()))
    for fault in faults:
        print("FAULT " + fault)
    return 1 if faults else 0
