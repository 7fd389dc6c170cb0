// Logits that a workgroup looks at where tokens are found or chosen.
const PART = 2048u;
