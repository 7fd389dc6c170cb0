// Measures peak memory bandwidth. MODE=copy: y = x. MODE=read: reads x, and writes y only if the XOR of all
// that a thread reads is 0, which never happens; it keeps the compiler from removing the reads.
//
//   x, y  [n] vec4<u32>
//
// Grid: x strides over n.
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n_groups: vec3<u32>) {
#if MODE=read
    var bits = vec4<u32>(id.x + 1u);
#endif
    for (var i = id.x; i < arrayLength(&x); i += n_groups.x * 256u) {
#if MODE=copy
        y[i] = x[i];
#else
        bits ^= x[i];
#endif
    }
#if MODE=read
    if all(bits == vec4<u32>()) {
        y[id.x] = bits;
    }
#endif
}
