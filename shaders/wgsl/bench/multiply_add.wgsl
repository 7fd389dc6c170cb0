// Measures peak arithmetic: every thread computes eight chains of multiply-adds, each 4 * rounds.x long.
//
//   y  [1] u32, written only if a result has an impossible value; keeps the compiler from removing the work
//
// A round is 32 multiply-adds for NUMBER=f32 and f16. For NUMBER=int8 it is 32 packed dot products, which are
// 128 multiply-adds. Grid: x.
#if NUMBER=f16
enable f16;
alias Number = vec4<f16>;
#endif
#if NUMBER=f32
alias Number = vec4<f32>;
#endif
#if NUMBER=int8
alias Number = vec4<u32>;
#endif
@group(0) @binding(0) var<uniform> rounds: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

#if NUMBER=int8
fn next(a: Number, factor: Number, term: Number) -> Number {
    return term + bitcast<vec4<u32>>(vec4<i32>(
        dot4I8Packed(a.x, factor.x), dot4I8Packed(a.y, factor.y),
        dot4I8Packed(a.z, factor.z), dot4I8Packed(a.w, factor.w),
    ));
}
#else
fn next(a: Number, factor: Number, term: Number) -> Number {
    return a * factor + term;
}
#endif

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // Not known at compile time. Float factors are below 1, so that chains stay finite and normal.
#if NUMBER=int8
    let factor = Number(rounds.y, rounds.z, rounds.w, rounds.x) * 0x01030507u;
    let term = Number(rounds.y);
#else
    let factor = Number(vec4<f32>(0.5) + 0.125 * vec4<f32>(rounds.yzwy));
    let term = Number(vec4<f32>(rounds.yzwz));
#endif
    var a = Number(id.xxxx % 61u);
    var b = Number(id.xxxx % 59u);
    for (var round = 0u; round < rounds.x; round++) {
        a = next(a, factor, term);
        b = next(b, factor, term);
        a = next(a, factor, term);
        b = next(b, factor, term);
        a = next(a, factor, term);
        b = next(b, factor, term);
        a = next(a, factor, term);
        b = next(b, factor, term);
    }
#if NUMBER=int8
    if all(a + b == Number(0xdeadbeefu)) {
#else
    if all(a + b == Number(-1.0)) {
#endif
        y[0] = id.x;
    }
}
