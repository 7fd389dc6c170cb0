// BF16 weights, the upper halves of floats, in blocks of 32: four vec4<u32> per block, two weights per word.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;

#import weight/block

fn upper_halves(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn load_block(i: u32) -> Block {
    let q = i * 4u;
    let a = quants[q];
    let b = quants[q + 1u];
    let c = quants[q + 2u];
    let d = quants[q + 3u];
    return Block(array<vec4<f32>, 8>(
        upper_halves(a.x, a.y), upper_halves(a.z, a.w), upper_halves(b.x, b.y), upper_halves(b.z, b.w),
        upper_halves(c.x, c.y), upper_halves(c.z, c.w), upper_halves(d.x, d.y), upper_halves(d.z, d.w),
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let words = quants[i * 4u + j / 2u];
    return select(upper_halves(words.x, words.y), upper_halves(words.z, words.w), (j & 1u) == 1u);
}
