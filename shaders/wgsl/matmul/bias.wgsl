// Adds a bias to the sums of four rows; `rows` are the rows' numbers in the weight.
#if BIAS=bias|bias_low
@group(0) @binding(10) var<storage, read> bias: array<f32>;

fn biased(rows: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    let at = rows + vec4<u32>(shape.bias_at);
    return sums + vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
}
#else
fn biased(rows: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    return sums;
}
#endif
