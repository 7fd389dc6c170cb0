//! Low-rank paths beside products.

use super::*;

/// A rank for each product: odd ones, more than four, and none. Not 1: a single number that happens to be
/// close to 0 would be compared by its own size.
pub fn ranks(part: &str) -> usize {
    match part.trim_end_matches(char::is_numeric) {
        "q" => 5,
        "k" | "g" | "output" => 16,
        "v" => 0,
        "o" => 2,
        "u" => 3,
        _ => 64,
    }
}

/// Low-rank paths beside products of every kind, with every kernel.
#[test]
fn groups_with_low_rank_paths() {
    let rope = |head_dim, n_rot, neox| RopeShape { n_heads: 4, head_dim, n_rot, neox };
    let plain = Layers::of(Format::Q4_1);
    let shapes = [
        plain,
        Layers { biases: true, rope: rope(24, 16, true), ..Layers::of(Format::F32) },
        Layers { head_norms: HeadNorms::Heads, ..Layers::of(Format::Q8_0) },
    ];
    for (gpu, tolerance) in choices() {
        let is_int8 = gpu.variants().accuracy == Accuracy::Int8;
        for shape in shapes {
            // By row is a product more, whatever the shape.
            for by_row in [false, true].into_iter().take(if shape.biases { 2 } else { 1 }) {
                let case = layers(shape, &[11, 1, 1, 3, 1, 8]);
                let mut case = if by_row { beside_rows(case, 1.0, ranks) } else { beside(case, 1.0, ranks) };
                case.same_choice = !is_int8;
                let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
                let tolerance = if is_int8 { 0.2 } else { 10.0 * tolerance };
                assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
            }
        }
    }
}

/// Beside weights of any format and heads of any length, and with more columns than kernels have room for.
#[test]
fn low_rank_paths_beside_anything() {
    let words = "shared:4,tile,f32";
    let odd = RopeShape { n_heads: 4, head_dim: 18, n_rot: 6, neox: true };
    for format in [Format::F16, Format::Q4_0, Format::Q6_K, Format::IQ3_XXS] {
        check_with(words, beside(layers(Layers::of(format), &[9, 1, 2]), 0.5, ranks));
    }
    for shape in [
        Layers { finer: Format::Q6_K, ..Layers::of(Format::Q4_K) },
        Layers { rope: odd, biases: true, ..Layers::of(Format::F16) },
        Layers { clamp: Some(0.4), biases: true, post_norms: true, ..Layers::of(Format::Q4_1) },
    ] {
        check_with(words, beside(layers(shape, &[9, 1, 2]), -0.5, ranks));
    }
    let layers = || layers(Layers::of(Format::Q4_1), &[9, 1, 2]);
    check_with(words, beside(layers(), 0.0, ranks));
    for rank in [168, 171, 300] {
        check_with(words, beside(layers(), 0.1, |part| if part == "d0" { 7 } else { rank }));
    }
    for case in cases::odd_products() {
        check_with(words, beside(case.clone(), 1.0, |_| 3));
        check_with(words, beside_rows(case, 1.0, |_| 3));
    }
}

/// Four more: what each group's rows are times the first matrices of its paths.
#[test]
fn decoding_with_an_adapter_takes_few_dispatches() {
    let count = |shape: Layers, rows: u32, rank: &dyn Fn(&str) -> usize| {
        let build = |n_layers| layers(Layers { n_layers, ..shape }, &[rows as usize]);
        dispatches_of(rows, 0, |n_layers| beside(build(n_layers), 1.0, rank))
    };
    let llama = Layers::of(Format::Q4_1);
    for rows in [1, 4, 8] {
        assert_eq!(count(llama, rows, &|_| 16), 9, "{rows} rows");
        assert_eq!(count(llama, rows, &ranks), 9, "{rows} rows, other ranks");
    }
    let some = |part: &str| if part.starts_with(['q', 'v']) { 8 } else { 0 };
    assert_eq!(count(llama, 1, &some), 6);
    // Biases of queries, keys and values take another dispatch, as heads that are normalised do anyway.
    assert_eq!(count(Layers { biases: true, ..llama }, 1, &|_| 16), 10);
    assert_eq!(count(Layers { biases: true, head_norms: HeadNorms::Heads, ..llama }, 1, &|_| 16), 10);
    let mixed = Layers { finer: Format::Q6_K, ..Layers::of(Format::Q4_K) };
    assert_eq!(count(mixed, 1, &|_| 16), 10);
}
