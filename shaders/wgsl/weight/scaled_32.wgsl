// Blocks with one scale and one offset for their 32 integers: `scale_and_offset`.
#import weight/integers

fn load_block(i: u32) -> Block {
    let q = integers(i);
    let s = scale_and_offset(i);
    return Block(array<vec4<f32>, 8>(
        unsigned_bytes(q.low.x), unsigned_bytes(q.low.y), unsigned_bytes(q.low.z), unsigned_bytes(q.low.w),
        unsigned_bytes(q.high.x), unsigned_bytes(q.high.y),
        unsigned_bytes(q.high.z), unsigned_bytes(q.high.w),
    ), s.x, s.y);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let s = scale_and_offset(i);
    return unsigned_bytes(load_word(i, j)) * s.x + vec4<f32>(s.y);
}
