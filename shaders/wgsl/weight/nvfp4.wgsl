// NVFP4: w = d book[i]. One vec4<u32> of nibbles per 32 weights, and for each 16 a byte with d, a float with
// 4 bits of exponent and 3 bits of mantissa.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/book_fp4
#import weight/book
#import weight/half
#import weight/unit

fn two_scales(i: u32) -> vec2<f32> {
    // An f16 has the same bits, with an exponent that is 8 less; the code book has twice the floats.
    let pair = scale_unit(i);
    return vec2<f32>(half((pair & 127u) << 7u), half((pair & 0x7f00u) >> 1u)) * 128.0;
}

fn load_block(i: u32) -> Block {
    let w = quants[i];
    let h = w >> vec4<u32>(4u);
    let s = two_scales(i);
    return Block(array<vec4<f32>, 8>(
        vec4<f32>(entries(w.x)) * s.x, vec4<f32>(entries(w.y)) * s.x,
        vec4<f32>(entries(w.z)) * s.x, vec4<f32>(entries(w.w)) * s.x,
        vec4<f32>(entries(h.x)) * s.y, vec4<f32>(entries(h.y)) * s.y,
        vec4<f32>(entries(h.z)) * s.y, vec4<f32>(entries(h.w)) * s.y,
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let s = two_scales(i);
    return vec4<f32>(entries(load_indices(i, j))) * select(s.x, s.y, j >= 4u);
}
