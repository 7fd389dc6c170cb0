//! What people call a model's format.

use crate::gguf::Header;
use std::collections::BTreeMap;

/// Mixtures of types by their number in `general.file_type`: `enum llama_ftype` in llama.cpp's `llama.h`.
const FILE_TYPES: &[(u64, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4"),
    (39, "NVFP4"),
];

/// The name of the mixture that the file states, such as `Q4_K_M`; else the type of most of its matrices'
/// bytes. Only shown: what is computed follows the tensors.
pub(super) fn quantization(headers: &[Header]) -> String {
    let stated = headers.first().and_then(|header| header.metadata.u64("general.file_type").ok().flatten());
    if let Some((_, name)) = FILE_TYPES.iter().find(|(number, _)| Some(*number) == stated) {
        return (*name).to_string();
    }
    let mut bytes_in: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in headers.iter().flat_map(|header| &header.tensors).filter(|tensor| tensor.shape.len() > 1) {
        let bytes = bytes_in.entry(tensor.ty.name()).or_default();
        *bytes = bytes.saturating_add(tensor.n_bytes.max(1));
    }
    let most = bytes_in.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map(|(name, _)| name).unwrap_or_default()
}
