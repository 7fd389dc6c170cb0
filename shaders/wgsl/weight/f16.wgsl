// F16 weights in blocks of 32: four vec4<u32> per block, two weights per word. Unpacking is core WGSL and
// does not need the f16 feature.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;

#import weight/block

fn halves(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}

fn load_block(i: u32) -> Block {
    let q = i * 4u;
    let a = quants[q];
    let b = quants[q + 1u];
    let c = quants[q + 2u];
    let d = quants[q + 3u];
    return Block(array<vec4<f32>, 8>(
        halves(a.x, a.y), halves(a.z, a.w), halves(b.x, b.y), halves(b.z, b.w),
        halves(c.x, c.y), halves(c.z, c.w), halves(d.x, d.y), halves(d.z, d.w),
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let words = quants[i * 4u + j / 2u];
    return select(halves(words.x, words.y), halves(words.z, words.w), (j & 1u) == 1u);
}
