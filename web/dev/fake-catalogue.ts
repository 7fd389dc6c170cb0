/** The stand-in's other models: ?models. */
import type { CatalogueEntry } from "nomoat";

export function others(): CatalogueEntry[] {
  const entry = (id: string, name: string, billions: number, strengths: CatalogueEntry["strengths"]) => ({
    id,
    name,
    description: `${name}, for the page's tests`,
    license: "Apache-2.0",
    parameters: billions * 1e9,
    quantization: "Q4_K_M",
    context_length: 32_768,
    kv_bytes_per_token: 100_000,
    strengths,
    repo: `someone/${name.replaceAll(" ", "-")}-GGUF`,
    files: [{ path: `${id}.gguf` }],
  });
  return [
    entry("llama-1b", "Llama 1B", 1.2, ["chat", "long-context"]),
    {
      ...entry("qwen-1b", "Qwen 1B", 1.1, ["languages", "chat", "code"]),
      sampling: { temperature: 0.7, top_p: 0.8, repetition_penalty: 1.05 },
    },
    entry("phi-3b", "Phi 3B", 3.8, ["reasoning", "code"]),
    entry("vicuna-7b", "Vicuna 7B", 6.7, ["history"]),
    entry("koala-13b", "Koala 13B", 13, ["history"]),
  ];
}
