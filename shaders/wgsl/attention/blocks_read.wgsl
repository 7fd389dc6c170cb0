// Reads blocks of the KV pool, which is bound as `k`.
#import attention/blocks

fn scale_at_half(i: u32) -> f32 {
    let pair = unpack2x16float(k[i / 8u][i / 2u % 4u]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
}

#if KV=q8_0
fn signed_bytes(bytes: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes << 24u, bytes << 16u, bytes << 8u, bytes)) >> vec4<u32>(24u));
}

// The quants of the block that begins with this word.
fn quants_at(word: u32) -> array<vec4<f32>, 8> {
    let a = k[word / 4u];
    let b = k[word / 4u + 1u];
    return array<vec4<f32>, 8>(
        signed_bytes(a.x), signed_bytes(a.y), signed_bytes(a.z), signed_bytes(a.w),
        signed_bytes(b.x), signed_bytes(b.y), signed_bytes(b.z), signed_bytes(b.w),
    );
}
#else
fn nibbles(bytes: u32) -> vec4<f32> {
    let all = vec4<u32>(bytes, bytes >> 8u, bytes >> 16u, bytes >> 24u) & vec4<u32>(15u);
    return vec4<f32>(vec4<i32>(all) - 8);
}

fn quants_at(word: u32) -> array<vec4<f32>, 8> {
    let a = k[word / 4u];
    let b = a >> vec4<u32>(4u);
    return array<vec4<f32>, 8>(
        nibbles(a.x), nibbles(a.y), nibbles(a.z), nibbles(a.w),
        nibbles(b.x), nibbles(b.y), nibbles(b.z), nibbles(b.w),
    );
}
#endif
