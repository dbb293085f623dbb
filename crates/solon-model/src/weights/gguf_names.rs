//! GGUF's names and row orders beside Hugging Face's, in both directions.
//!
//! Contract: [`gguf_name`] and [`hugging_face_name`] undo each other, and so do [`pairs_from_halves`] and
//! [`halves_from_pairs`].
//!
//! Source: llama.cpp, `gguf-py/gguf/tensor_mapping.py` (names) and `convert_hf_to_gguf.py` (`permute`).

use super::Tensor;

/// The embedding.
pub(super) const EMBEDDING: &str = "token_embd.weight";
/// The head, where it is not the embedding.
pub(super) const HEAD: &str = "output.weight";

/// The tensors outside of blocks: GGUF's name, Hugging Face's.
const WHOLE: [(&str, &str); 3] = [
    (EMBEDDING, "model.embed_tokens.weight"),
    (HEAD, "lm_head.weight"),
    ("output_norm.weight", "model.norm.weight"),
];

/// The modules of a block: GGUF's name, Hugging Face's.
const MODULES: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The Hugging Face name of a tensor of a GGUF file.
pub(super) fn hugging_face_name(name: &str) -> Option<String> {
    if let Some((_, to)) = WHOLE.iter().find(|(from, _)| *from == name) {
        return Some((*to).to_string());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (_, to) = MODULES.iter().find(|(from, _)| *from == module)?;
    (is_canonical(layer) && is_kind(kind)).then(|| format!("model.layers.{layer}.{to}.{kind}"))
}

/// The GGUF name of a tensor with a Hugging Face name.
pub(super) fn gguf_name(name: &str) -> Option<String> {
    if let Some((to, _)) = WHOLE.iter().find(|(_, from)| *from == name) {
        return Some((*to).to_string());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (to, _) = MODULES.iter().find(|(_, from)| *from == module)?;
    (is_canonical(layer) && is_kind(kind)).then(|| format!("blk.{layer}.{to}.{kind}"))
}

/// `blk.01` would be a second name of the same layer.
fn is_canonical(layer: &str) -> bool {
    layer.parse::<u32>().is_ok_and(|number| number.to_string() == layer)
}

fn is_kind(kind: &str) -> bool {
    matches!(kind, "weight" | "bias")
}

/// Whether the rows of this tensor (by its Hugging Face name) are in another order in files whose runtime rotates
/// neighbours.
pub(super) fn is_rotated(name: &str) -> bool {
    name.ends_with(".q_proj.weight") || name.ends_with(".k_proj.weight")
}

/// Reorders each head's rows `0 d/2 1 d/2+1 …` (pairs that rotate together lie together) to `0 1 2 …`.
pub(super) fn halves_from_pairs(tensor: &Tensor, head_dim: usize) -> Tensor {
    let order = |row: usize| 2 * (row % (head_dim / 2)) + row / (head_dim / 2);
    reordered(tensor, head_dim, order)
}

/// Reorders each head's rows `0 1 2 …` to `0 d/2 1 d/2+1 …`: what [`halves_from_pairs`] undoes.
pub(super) fn pairs_from_halves(tensor: &Tensor, head_dim: usize) -> Tensor {
    reordered(tensor, head_dim, |row| row % 2 * (head_dim / 2) + row / 2)
}

/// `from`: the row of a head that comes to a place in it.
fn reordered(tensor: &Tensor, head_dim: usize, from: impl Fn(usize) -> usize) -> Tensor {
    let width = tensor.data.len() / tensor.shape[0];
    let mut data = Vec::with_capacity(tensor.data.len());
    for head in tensor.data.chunks_exact(head_dim * width) {
        for row in 0..head_dim {
            data.extend_from_slice(&head[from(row) * width..][..width]);
        }
    }
    Tensor { shape: tensor.shape.clone(), data }
}

#[cfg(test)]
mod tests {
    use super::super::expected_tensors;
    use super::super::test_models::tiny;
    use super::*;
    use crate::config::Architecture;

    #[test]
    fn row_order_is_undone() {
        // Two heads of four rows, as convert_hf_to_gguf.py's `permute` leaves rows 0..8.
        let permuted = Tensor { shape: vec![8, 1], data: vec![0., 2., 1., 3., 4., 6., 5., 7.] };
        let plain = halves_from_pairs(&permuted, 4);
        assert_eq!(plain.data, [0., 1., 2., 3., 4., 5., 6., 7.]);
        assert_eq!(pairs_from_halves(&plain, 4), permuted);
        let longer = Tensor { shape: vec![8, 2], data: (0..16).map(|value| value as f32).collect() };
        assert_eq!(pairs_from_halves(&halves_from_pairs(&longer, 8), 8), longer);
    }

    #[test]
    fn every_name_comes_back() {
        for architecture in [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
            for (name, _) in expected_tensors(&tiny(architecture)) {
                let there = gguf_name(&name).unwrap();
                assert_eq!(hugging_face_name(&there).as_deref(), Some(name.as_str()), "{there}");
            }
        }
        assert_eq!(gguf_name("model.layers.3.mlp.down_proj.weight").unwrap(), "blk.3.ffn_down.weight");
        assert_eq!((gguf_name("score.weight"), hugging_face_name("blk.00.attn_q.weight")), (None, None));
    }
}
