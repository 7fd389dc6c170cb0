// Quantises numbers and writes them to the KV pool, which is bound as `kv`. Workgroups of 64 threads.
#import attention/blocks
#import common/f16

var<workgroup> numbers: array<f32, 128>;

// Each thread brings two of 128 numbers, or of the first `n` if there are fewer. They go to a cell of `width`
// numbers, from its number `first` on; `first` and `n` are multiples of 32. All threads must call it.
fn write_blocks(thread: u32, pair: vec2<f32>, n: u32, cell: u32, width: u32, first: u32) {
    workgroupBarrier();
    numbers[2u * thread] = pair.x;
    numbers[2u * thread + 1u] = pair.y;
    workgroupBarrier();
    // One thread per word.
    let start = thread / BLOCK_WORDS * 32u;
    if start >= min(n, 128u) {
        return;
    }
    // The first of the greatest magnitude.
    var top = 0.0;
    for (var i = start; i < start + 32u; i++) {
        top = select(top, numbers[i], abs(numbers[i]) > abs(top));
    }
    let i = start + thread % BLOCK_WORDS * 4u;
    let low = vec4<f32>(numbers[i], numbers[i + 1u], numbers[i + 2u], numbers[i + 3u]);
#if KV=q8_0
    let scale = abs(top) / 127.0;
    let x = clamp(low * inverse(scale), vec4<f32>(-127.0), vec4<f32>(127.0));
    // Halves go away from 0.
    let word = bytes(bitcast<vec4<u32>>(vec4<i32>(sign(x) * floor(abs(x) + 0.5))) & vec4<u32>(255u));
#else
    let scale = top / -8.0;
    let high = vec4<f32>(numbers[i + 16u], numbers[i + 17u], numbers[i + 18u], numbers[i + 19u]);
    let word = bytes(nibble(low * inverse(scale)) | (nibble(high * inverse(scale)) << vec4<u32>(4u)));
#endif
    let at = block_at(cell, width, first + start);
    atomicStore(&kv[at.x + thread % BLOCK_WORDS], word);
    // Another workgroup may write the other half of a word of scales at the same time.
    if thread % BLOCK_WORDS == 0u {
        let shift = 16u * (at.y & 1u);
        atomicAnd(&kv[at.y / 2u], ~(0xffffu << shift));
        atomicOr(&kv[at.y / 2u], (pack_f16(vec2<f32>(scale, 0.0)) & 0xffffu) << shift);
    }
}

fn inverse(scale: f32) -> f32 {
    return select(0.0, 1.0 / scale, scale != 0.0);
}

fn nibble(x: vec4<f32>) -> vec4<u32> {
    return vec4<u32>(clamp(x + 8.5, vec4<f32>(0.0), vec4<f32>(15.0)));
}

fn bytes(b: vec4<u32>) -> u32 {
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}
