// F32 weights in blocks of 32: eight vec4<f32> per block.
@group(0) @binding(2) var<storage, read> quants: array<vec4<f32>>;

#import weight/block

fn load_block(i: u32) -> Block {
    let q = i * 8u;
    return Block(array<vec4<f32>, 8>(
        quants[q], quants[q + 1u], quants[q + 2u], quants[q + 3u],
        quants[q + 4u], quants[q + 5u], quants[q + 6u], quants[q + 7u],
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    return quants[i * 8u + j];
}
