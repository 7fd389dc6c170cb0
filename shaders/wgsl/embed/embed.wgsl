// Embedding lookup: y[t, :] = w[tokens[t].id, :], dequantised; BY = 1: of a token's position; 2: of its set.
//
//   tokens  [n_tokens]; an id is a token, or a slot whose chosen token is read
//   chosen  [n_slots] ids
//   quants, scales  w [N_ROWS, N_COLS], see weight/: rows FIRST_ROW .. FIRST_ROW + N_ROWS of the vocabulary
//   y       [n_tokens, N_COLS] f32
//
// Numbers are written one or, where N_COLS is a multiple of 32, four at a time. Rows of w are filled up with
// zeros to whole blocks. One thread per block of 32. Tokens of other pieces of the matrix are skipped; each
// piece has a dispatch. Grid: x = blocks / 64, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
#import weight/{WEIGHT}
@group(0) @binding(5) var<storage, read> chosen: array<u32>;
#if NUMBERS=4
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#endif

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;
override BY: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_blocks = (N_COLS + 31u) / 32u;
    if id.x >= n_blocks || id.y >= step.n_tokens {
        return;
    }
    var token = tokens[id.y].id;
    if (token & FROM_SLOT) != 0u {
        token = chosen[token & ~FROM_SLOT];
    }
    // Wraps for tokens below FIRST_ROW, so that one comparison covers both ends.
    let other = select(tokens[id.y].position, tokens[id.y].adapters, BY == 2u);
    let row = select(token, other, BY > 0u) - FIRST_ROW;
    if row >= N_ROWS {
        return;
    }
    var block = load_block(row * n_blocks + id.x);
    for (var i = 0u; i < 8u; i++) {
        let quad = block.q[i] * block.scale + vec4<f32>(block.offset);
#if NUMBERS=4
        y[id.y * (N_COLS / 4u) + id.x * 8u + i] = quad;
#else
        let column = id.x * 32u + i * 4u;
        for (var j = 0u; j < 4u && column + j < N_COLS; j++) {
            y[id.y * N_COLS + column + j] = quad[j];
        }
#endif
    }
}
