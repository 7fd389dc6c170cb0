// Q4_K: one vec4<u32> of nibbles per 32 weights.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/nibbles
#import weight/scales_k
