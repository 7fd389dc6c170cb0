// TQ2_0: w = d (q - 1). Two words per 32 weights, and d as f16 for each 256.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_32
#import weight/packed_32
#import weight/bits_2
#import weight/scale_256
