// Embedding lookup: y[t, :] = w[tokens[t].id, :], dequantised.
//
//   tokens  [n_tokens]; an id is a token, or a slot whose chosen token is read
//   chosen  [n_slots] ids
//   quants, scales  w [N_ROWS, N_COLS], see weight/: rows FIRST_ROW .. FIRST_ROW + N_ROWS of the vocabulary
//   y       [n_tokens, N_COLS] f32, four per vec4
//
// One thread per block of 32. Tokens of other pieces of the matrix are skipped; each piece has a dispatch.
// Grid: x = blocks / 64, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
#import weight/{WEIGHT}
@group(0) @binding(5) var<storage, read> chosen: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_blocks = N_COLS / 32u;
    if id.x >= n_blocks || id.y >= step.n_tokens {
        return;
    }
    var token = tokens[id.y].id;
    if (token & FROM_SLOT) != 0u {
        token = chosen[token & ~FROM_SLOT];
    }
    // Wraps for tokens below FIRST_ROW, so that one comparison covers both ends.
    let row = token - FIRST_ROW;
    if row >= N_ROWS {
        return;
    }
    var block = load_block(row * n_blocks + id.x);
    for (var i = 0u; i < 8u; i++) {
        y[id.y * (N_COLS / 4u) + id.x * 8u + i] = block.q[i] * block.scale + vec4<f32>(block.offset);
    }
}
