// Blocks of indices into a code book, with one scale: `scale_and_offset`. The offset is 0.
#import weight/book

fn numbers(indices: u32) -> vec4<f32> {
    return vec4<f32>(entries(indices));
}

fn load_block(i: u32) -> Block {
    let w = quants[i];
    let h = w >> vec4<u32>(4u);
    return Block(array<vec4<f32>, 8>(
        numbers(w.x), numbers(w.y), numbers(w.z), numbers(w.w),
        numbers(h.x), numbers(h.y), numbers(h.z), numbers(h.w),
    ), scale_and_offset(i).x, 0.0);
}

// Four numbers as bytes.
fn packed(indices: u32) -> u32 {
    let bytes = vec4<u32>(entries(indices)) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

fn load_packed(i: u32) -> Packed {
    let w = quants[i];
    let h = w >> vec4<u32>(4u);
    return Packed(
        vec4<u32>(packed(w.x), packed(w.y), packed(w.z), packed(w.w)),
        vec4<u32>(packed(h.x), packed(h.y), packed(h.z), packed(h.w)),
        scale_and_offset(i).x, 0.0,
    );
}

// Numbers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    return packed(load_indices(i, j));
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    return numbers(load_indices(i, j)) * scale_and_offset(i).x;
}
