"""Tiny models with fresh weights, of architectures that treat a sequence in ways of their own."""

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

WORDS = 11
SPECIAL = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts_per_tok": 2}
MAMBA = {"mamba_n_heads": 2, "mamba_d_head": 16, "mamba_d_state": 4, "mamba_chunk_size": 8}
DECODER = {
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
}
BERT = {**LLAMA, "is_decoder": True, "pad_token_id": 1}
BERT.pop("num_key_value_heads")

KINDS = {
    "mixtral": LLAMA | EXPERTS | {"num_local_experts": 4},
    "qwen3_moe": LLAMA | EXPERTS | {"num_experts": 4, "moe_intermediate_size": 8, "head_dim": 8},
    "olmoe": LLAMA | EXPERTS | {"num_experts": 4},
    "granitemoe": LLAMA | EXPERTS | {"num_local_experts": 4},
    "jetmoe": LLAMA
    | EXPERTS
    | {"num_local_experts": 4, "kv_channels": 8, "num_key_value_heads": 1},
    "rwkv": {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2},
    "mamba": {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2},
    "mamba2": {
        "hidden_size": 16,
        "num_heads": 2,
        "head_dim": 16,
        "state_size": 4,
        "n_groups": 1,
        "num_hidden_layers": 2,
        "chunk_size": 8,
    },
    "falcon_h1": LLAMA | MAMBA | {"mamba_d_ssm": 32, "head_dim": 8},
    "bamba": LLAMA | MAMBA | {"attn_layer_indices": [1]},
    "jamba": LLAMA
    | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "use_mamba_kernels": False}
    | {"mamba_d_state": 4, "mamba_dt_rank": 2},
    "granitemoehybrid": LLAMA | MAMBA | {"num_local_experts": 2, "shared_intermediate_size": 16},
    "recurrent_gemma": LLAMA | {"lru_width": 16, "num_hidden_layers": 3, "head_dim": 8},
    "bart": DECODER,
    "marian": DECODER,
    "openai-gpt": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "roberta": BERT,
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 1},
    "minicpm3": LLAMA
    | {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    | {"v_head_dim": 8},
    "deepseek_v4": LLAMA
    | {"num_key_value_heads": 1, "head_dim": 8, "moe_intermediate_size": 8, "n_routed_experts": 4}
    | {"num_experts_per_tok": 2, "q_lora_rank": 8, "o_lora_rank": 8, "o_groups": 2}
    | {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 64, "sliding_window": 16}
    | {"hc_mult": 2, "hc_sinkhorn_iters": 4, "rope_parameters": None}
    | {"layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"]}
    | {"compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 32}},
}


def has(kind):
    """Whether the transformers at hand has the architecture."""
    return kind in transformers.CONFIG_MAPPING


def tiny(kind, seed=0, std=0.3, **fields):
    """A model of an architecture, its matrices drawn anew so that its layers matter."""
    torch.manual_seed(seed)
    settings = AutoConfig.for_model(
        kind, **({"vocab_size": WORDS} | SPECIAL | KINDS[kind] | fields)
    )
    model = AutoModelForCausalLM.from_config(settings).float().eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=draw) * std)
    return model


def saved(model, letters, folder):
    """A folder that holds a model, and the tokenizer of letters."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(letters).save_pretrained(folder)
    return folder
