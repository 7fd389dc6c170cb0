/** OpenAI's `embeddings`: vectors of texts. */
import { InvalidRequestError } from "../errors.js";
import { integer, prompts, refused } from "../request.js";
import { together } from "./choices.js";
import type { RuntimeEmbedding, RuntimeRequest } from "../runtime.js";

/** Parameters of `embeddings.create`. */
export interface EmbeddingCreateParams {
  /** A text or several, or their tokens. */
  input: string | string[] | number[] | number[][];
  /** Accepted and not used: an engine has one model. */
  model?: string;
  /** `base64` gives the numbers as little-endian float32. Default `float`. */
  encoding_format?: "float" | "base64" | null;
  /** How many numbers the vectors have, at most what the model gives, which is the default. */
  dimensions?: number | null;
  /** Accepted and not used. */
  user?: string | null;
}

/** A text's vector, of length 1. */
export interface Embedding {
  object: "embedding";
  /** Of the input's texts. */
  index: number;
  /** A text if `encoding_format` is `base64`. */
  embedding: number[] | string;
}

/** The vectors of all texts. */
export interface EmbeddingResponse {
  object: "list";
  data: Embedding[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

/** Options that are not OpenAI parameters. */
export interface EmbeddingOptions {
  signal?: AbortSignal;
}

/** OpenAI's `embeddings`. */
export interface Embeddings {
  create(params: EmbeddingCreateParams, options?: EmbeddingOptions): Promise<EmbeddingResponse>;
}

/** What the runtime is asked for. */
export type EmbeddingRequest = Required<Pick<RuntimeRequest, "prompt" | "embedding">>;

/** OpenAI's limit. */
const MAX_INPUTS = 2048;
const KNOWN = new Set(["input", "model", "encoding_format", "dimensions", "user"]);

/** `embeddings` that `embed` computes. */
export function embeddingsOf(
  model: string,
  embed: (request: EmbeddingRequest, signal?: AbortSignal) => Promise<RuntimeEmbedding>,
): Embeddings {
  return {
    create: async (params, { signal } = {}) => {
      const { inputs, dimensions, isBase64 } = checked(params);
      const found = await together(inputs, { ...(signal && { signal }) }, (prompt, own) =>
        embed({ prompt, embedding: dimensions }, own.signal),
      );
      const data = found.map(({ embedding }, index): Embedding => ({
        object: "embedding",
        index,
        embedding: isBase64 ? base64(embedding) : embedding,
      }));
      const prompt_tokens = found.reduce((sum, one) => sum + one.prompt_tokens, 0);
      return { object: "list", data, model, usage: { prompt_tokens, total_tokens: prompt_tokens } };
    },
  };
}

/** Throws InvalidRequestError with the field that is wrong. */
function checked(params: EmbeddingCreateParams) {
  if (typeof params !== "object" || params === null)
    throw new InvalidRequestError("The parameters must be an object.");
  for (const [name, value] of Object.entries(params))
    if (value != null && !KNOWN.has(name)) throw refused(name);
  const given: Record<string, unknown> = { ...params };
  const { input, encoding_format } = given;
  const inputs = prompts(input, "input", MAX_INPUTS);
  if (encoding_format != null && encoding_format !== "float" && encoding_format !== "base64")
    throw new InvalidRequestError('`encoding_format` must be "float" or "base64".', "encoding_format");
  return {
    inputs,
    dimensions: integer(given, "dimensions", 1) ?? 0,
    isBase64: encoding_format === "base64",
  };
}

/** Numbers as little-endian float32 in base64. */
function base64(numbers: number[]): string {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, index) => view.setFloat32(4 * index, number, true));
  const bytes = new Uint8Array(view.buffer);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
