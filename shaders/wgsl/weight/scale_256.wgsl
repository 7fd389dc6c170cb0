#import weight/half
#import weight/unit

// One scale d for each 256 weights: w = d (q - 1).
fn scale_and_offset(i: u32) -> vec2<f32> {
    return half(scale_unit(i / 8u)) * vec2<f32>(1.0, -1.0);
}
