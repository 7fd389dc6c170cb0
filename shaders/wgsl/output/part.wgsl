// Logits per workgroup when a token is searched or chosen.
const PART = 2048u;
