#import weight/{WEIGHT}

// A block of 32 activations.
struct X {
    v: array<vec4<f32>, 8>,
    sum: f32,
}

fn floats(v: array<vec4<f32>, 8>) -> X {
    let s = v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
    return X(v, s.x + s.y + s.z + s.w);
}

// Unrolled by hand, because compilers for CPUs keep an array that a loop indexes in memory.
fn product_of(block: Block, x: X) -> f32 {
    let p = block.q[0] * x.v[0] + block.q[1] * x.v[1] + block.q[2] * x.v[2] + block.q[3] * x.v[3]
        + block.q[4] * x.v[4] + block.q[5] * x.v[5] + block.q[6] * x.v[6] + block.q[7] * x.v[7];
    return block.scale * (p.x + p.y + p.z + p.w) + block.offset * x.sum;
}

// Block `i` of the weight times a block of activations.
fn product(i: u32, x: X) -> f32 {
    return product_of(load_block(i), x);
}

// Block `i` of the weight times four blocks of activations.
fn products(i: u32, a: X, b: X, c: X, d: X) -> vec4<f32> {
    let block = load_block(i);
    return vec4<f32>(product_of(block, a), product_of(block, b), product_of(block, c), product_of(block, d));
}
