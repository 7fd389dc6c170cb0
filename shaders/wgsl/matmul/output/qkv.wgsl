// The weight's rows are those of the query, key and value projections. A unit is four rows of one head, chosen so that rotary pairs
// (see attention/rope) are together and two of them make whole words of the KV pool: queries and keys are turned, keys and values go to
// the pool as f16.
//   tokens [n_tokens]
//   table  [n_tokens, N_ROT / 2] (cosine, sine), see attention/rope_table
//   y      [n_tokens, N_HEADS * HEAD_DIM] f32, the turned queries
//   kv     [n_cells, keys then values of N_KV_HEADS * HEAD_DIM f16], two a word
// HEAD_DIM and N_ROT are multiples of 4.
#import common/token
#import common/f16
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> tokens: array<Token>;
@group(0) @binding(7) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> kv: array<u32>;

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

fn n_units() -> u32 {
    return (N_HEADS + 2u * N_KV_HEADS) * (HEAD_DIM / 4u);
}

fn is_turned(unit: u32) -> bool {
    let head = unit / (HEAD_DIM / 4u);
    return head < N_HEADS + N_KV_HEADS && unit % (HEAD_DIM / 4u) < N_ROT / 4u;
}

fn unit_rows(unit: u32) -> vec4<u32> {
    let head = unit / (HEAD_DIM / 4u) * HEAD_DIM;
    let i = unit % (HEAD_DIM / 4u);
    if NEOX && is_turned(unit) {
        let row = head + 2u * i;
        return vec4<u32>(row, row + N_ROT / 2u, row + 1u, row + 1u + N_ROT / 2u);
    }
    return vec4<u32>(head + 4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    var v = sums;
    if is_turned(unit) {
        let at = t * (N_ROT / 2u) + 2u * (unit % (HEAD_DIM / 4u));
        let a = table[at];
        let b = table[at + 1u];
        v = vec4<f32>(
            v.x * a.x - v.y * a.y, v.x * a.y + v.y * a.x,
            v.z * b.x - v.w * b.y, v.z * b.y + v.w * b.x,
        );
    }
    // Two pairs of neighbouring rows.
    let rows = unit_rows(unit);
    var first = rows.x;
    var second = rows.z;
    if NEOX && is_turned(unit) {
        v = v.xzyw;
        second = rows.y;
    }
    let n_q = N_HEADS * HEAD_DIM;
    if first < n_q {
        let at = t * n_q;
        y[at + first] = v.x;
        y[at + first + 1u] = v.y;
        y[at + second] = v.z;
        y[at + second + 1u] = v.w;
    } else {
        // Keys then values, as they lie in the pool.
        let at = tokens[t].cell * (N_KV_HEADS * HEAD_DIM);
        kv[at + (first - n_q) / 2u] = pack_f16(v.xy);
        kv[at + (second - n_q) / 2u] = pack_f16(v.zw);
    }
}
