// Q6_K: six words per 32 weights.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 6>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const ZERO = 32.0;

#import weight/scaled_16
#import weight/bits_6
#import weight/scales_signed
