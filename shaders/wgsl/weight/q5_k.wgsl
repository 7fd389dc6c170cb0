// Q5_K: five words per 32 weights.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 5>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_32
#import weight/bits_5
#import weight/scales_k
