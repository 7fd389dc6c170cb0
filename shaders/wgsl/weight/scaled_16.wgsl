// Blocks of two halves, each with a scale and an offset: `scales_and_offsets`. They are applied to the
// weights, because sums are over whole blocks.
#import weight/integers

fn load_block(i: u32) -> Block {
    let q = integers(i);
    let s = scales_and_offsets(i);
    let a = vec4<f32>(s.y);
    let b = vec4<f32>(s.w);
    return Block(array<vec4<f32>, 8>(
        unsigned_bytes(q.low.x) * s.x + a, unsigned_bytes(q.low.y) * s.x + a,
        unsigned_bytes(q.low.z) * s.x + a, unsigned_bytes(q.low.w) * s.x + a,
        unsigned_bytes(q.high.x) * s.z + b, unsigned_bytes(q.high.y) * s.z + b,
        unsigned_bytes(q.high.z) * s.z + b, unsigned_bytes(q.high.w) * s.z + b,
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let all = scales_and_offsets(i);
    let s = select(all.xy, all.zw, j >= 4u);
    return unsigned_bytes(load_word(i, j)) * s.x + vec4<f32>(s.y);
}
