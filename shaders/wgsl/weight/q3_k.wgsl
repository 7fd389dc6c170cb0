// Q3_K: three words per 32 weights.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 3>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

const ZERO = 4.0;

#import weight/scaled_16
#import weight/bits_3
#import weight/scales_signed
