#import weight/block

// 32 integers as bytes, four per word.
struct Integers {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn unsigned_bytes(bytes: u32) -> vec4<f32> {
    // Converted from i32, because u32 to f32 is slow on x86 processors without AVX-512.
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes, bytes >> 8u, bytes >> 16u, bytes >> 24u) & vec4<u32>(255u)));
}
