// A number of the result from those in the same place: y = f(a), f(a) * b, a + b or a * b.
//
//   a, b, y  [step rows, WIDTH] f32; with OP=bias, b is [WIDTH] from B_AT on
//
// Numbers are read one or, where WIDTH is a multiple of 4, four at a time. One thread for each.
// Grid: x = WIDTH / NUMBERS / 64, y = step rows.
#import common/rows
#import common/gate
#if NUMBERS=4
alias Numbers = vec4<f32>;
#else
alias Numbers = f32;
#endif
@group(0) @binding(1) var<storage, read> a: array<Numbers>;
#if OP=gated|add|mul|bias
@group(0) @binding(2) var<storage, read> b: array<Numbers>;
#endif
@group(0) @binding(3) var<storage, read_write> y: array<Numbers>;

override WIDTH: u32;
override B_AT: u32 = 0u;

fn wide(x: Numbers) -> vec4<f32> {
#if NUMBERS=4
    return x;
#else
    return vec4<f32>(x);
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / {NUMBERS}u;
    if id.x >= n || id.y >= step_rows() {
        return;
    }
    let i = id.y * n + id.x;
#if OP=unary
    let result = unary(wide(a[i]));
#endif
#if OP=gated
    let result = gated(wide(a[i]), wide(b[i]));
#endif
#if OP=add
    let result = wide(a[i] + b[i]);
#endif
#if OP=mul
    let result = wide(a[i] * b[i]);
#endif
#if OP=bias
    let result = wide(a[i] + b[B_AT / {NUMBERS}u + id.x]);
#endif
#if NUMBERS=4
    y[i] = result;
#else
    y[i] = result.x;
#endif
}
