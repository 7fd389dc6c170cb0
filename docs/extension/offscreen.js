import { createEngine } from "./nomoat/index.js";
import { shareEngine } from "./nomoat/service-worker.js";

shareEngine(() => createEngine({ model: "smollm2-135m-instruct" }));
