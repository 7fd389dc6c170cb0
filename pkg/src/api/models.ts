/** OpenAI's `models`: the one model that is loaded. */
import { ModelNotFoundError } from "../errors.js";

/** A model in OpenAI's shape. */
export interface Model {
  id: string;
  object: "model";
  /** Seconds since 1970: when the model was loaded. */
  created: number;
  owned_by: "nomoat";
}

/** OpenAI's `models`. */
export interface Models {
  list(): Promise<{ object: "list"; data: Model[] }>;
  /** Fails unless `id` is the loaded model's. */
  retrieve(id: string): Promise<Model>;
}

/** `models` of an engine with this model. */
export function modelsOf(id: string): Models {
  const model: Model = { id, object: "model", created: Math.floor(Date.now() / 1000), owned_by: "nomoat" };
  return {
    list: async () => ({ object: "list", data: [model] }),
    retrieve: async (asked) => {
      if (asked === id) return model;
      throw new ModelNotFoundError(`The model that is loaded is ${id}, not ${asked}.`, 404);
    },
  };
}
