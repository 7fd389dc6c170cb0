/** A repository on the hub: which GGUF files it has, and which of them suits this device. */
import { ModelNotFoundError } from "./errors.js";
import { Exchange, retrying, type NetworkEnv } from "./exchange.js";
import { hubOf, type SourceOptions } from "./source.js";

/** A model file of a repository; all parts of a split model together. */
export interface HubFile {
  /** Path of the file, or of the first part. */
  path: string;
  /** Addresses, in order. */
  urls: string[];
  /** Bytes of all parts, or null if the hub does not say. */
  size: number | null;
  /** SHA-256 of each part, or null if the hub does not say. */
  sha256: string[] | null;
  /** As the file's name has it, such as `Q4_K_M`; empty if it has none. */
  quantization: string;
}

/** A repository on the hub. */
export interface HubRepository {
  /** `owner/name`. */
  id: string;
  /** The commit that the addresses are pinned to. */
  revision: string;
  /** The licence that the repository names, or null. */
  license: string | null;
  files: HubFile[];
}

const REPOSITORY = /^[\w-][\w.-]*\/[\w.-]*[\w-]$/;
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;
const QUANTIZATION = /(?:^|[.\-_/])((?:i?q\d(?:_\w+?)?|tq\d_\d|mxfp4|b?f16|f32))(?=[.\-]|$)/gi;
/** Of several types of about the same use, the first is the best bargain. Others come after these. */
const PREFERRED = [
  "Q4_K_M",
  "Q4_K_S",
  "Q4_K_L",
  "Q4_1",
  "Q4_0",
  "Q5_K_M",
  "Q5_K_S",
  "Q5_0",
  "Q6_K",
  "Q8_0",
  "IQ4_XS",
  "IQ4_NL",
  "Q3_K_M",
  "Q3_K_L",
  "Q3_K_S",
  "IQ3_M",
  "IQ3_XXS",
  "Q2_K",
  "F16",
  "BF16",
];
/** A small model loses more by 4 bits than it gains: up to so many bytes, 8 bits come first. */
const SMALL = 700e6;

/** Whether a text names a repository, `owner/name`. */
export function isRepository(text: string): boolean {
  return REPOSITORY.test(text) && !/\.gguf$/i.test(text);
}

/** The repository that a text names: `owner/name`, or the address of its page on the hub. Null for others. */
export function repositoryOf(text: string, options: SourceOptions, base: string): string | null {
  const trimmed = text.trim();
  if (isRepository(trimmed)) return trimmed;
  const hub = hubOf(options, base);
  let url: URL;
  try {
    url = new URL(trimmed);
  } catch {
    return null;
  }
  const folder = hub.pathname.replace(/\/+$/, "");
  const onHub = url.origin === hub.origin && url.pathname.startsWith(`${folder}/`);
  if (!onHub && url.hostname !== "huggingface.co" && url.hostname !== "hf.co") return null;
  const path = url.pathname.slice(onHub ? folder.length : 0);
  const match = /^\/([^/]+\/[^/]+)(?:\/(?:tree\/[^/]+)?)?\/?$/.exec(path);
  return match?.[1] !== undefined && isRepository(match[1]) ? match[1] : null;
}

/** Asks the hub for a repository's GGUF files. */
export async function listRepository(
  id: string,
  options: SourceOptions,
  env: NetworkEnv,
  base: string,
  signal: AbortSignal,
): Promise<HubRepository> {
  const hub = hubOf(options, base).href.replace(/\/+$/, "");
  const url = `${hub}/api/models/${id}?blobs=true`;
  const headers: Record<string, string> = { ...options.headers };
  if (options.hubToken) headers["Authorization"] = `Bearer ${options.hubToken}`;
  const answer = await retrying(env, url, signal, async () => {
    const exchange = await Exchange.open(env, url, { headers }, signal);
    try {
      return await textOf(exchange, signal);
    } finally {
      exchange.close();
    }
  }).catch((error: unknown) => {
    if (!(error instanceof ModelNotFoundError)) throw error;
    // The hub answers 401 for a repository that does not exist, too.
    const why = error.status === 404 ? "" : ", or it is private or gated and needs a token";
    throw new ModelNotFoundError(`The hub has no repository "${id}"${why} (${error.status}).`, error.status);
  });
  return parseRepository(id, hub, answer);
}

/** More than the list of any repository of models. */
const MAX_LIST = 16 * 1024 * 1024;

async function textOf(exchange: Exchange, signal: AbortSignal): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for (let chunk; (chunk = await exchange.read(signal)) && text.length < MAX_LIST;)
    text += decoder.decode(chunk, { stream: true });
  return text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Reads the hub's answer; what is not as expected is left out. */
export function parseRepository(id: string, hub: string, text: string): HubRepository {
  let answer: unknown = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Handled as an empty answer.
  }
  if (!isRecord(answer) || !Array.isArray(answer["siblings"]))
    throw new ModelNotFoundError(`The hub's answer about "${id}" is not a list of files: check its address.`);
  const { sha, cardData, siblings } = answer;
  const revision = typeof sha === "string" && /^[0-9a-f]{40}$/.test(sha) ? sha : "main";
  const license = isRecord(cardData) && typeof cardData["license"] === "string" ? cardData["license"] : null;
  const groups = new Map<string, Entry[]>();
  for (const sibling of siblings as unknown[]) {
    const entry = entryOf(sibling);
    if (!entry || !/\.gguf$/i.test(entry.path) || /(^|\/)mmproj|imatrix/i.test(entry.path)) continue;
    const stem = entry.path.replace(PART, "-of-$2.gguf");
    groups.set(stem, [...(groups.get(stem) ?? []), entry]);
  }
  const files = [...groups.values()].flatMap((parts) => fileOf(parts, `${hub}/${id}/resolve/${revision}/`));
  return { id, revision, license, files };
}

interface Entry {
  path: string;
  size: number | null;
  sha256: string | null;
}

function entryOf(sibling: unknown): Entry | null {
  if (!isRecord(sibling) || typeof sibling["rfilename"] !== "string") return null;
  const lfs = isRecord(sibling["lfs"]) ? sibling["lfs"] : {};
  const size = lfs["size"] ?? sibling["size"];
  const sha256 = lfs["sha256"];
  return {
    path: sibling["rfilename"],
    size: typeof size === "number" && Number.isSafeInteger(size) && size > 0 ? size : null,
    sha256: typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256) ? sha256 : null,
  };
}

/** One model of a repository; none if parts are missing. */
function fileOf(parts: Entry[], folder: string): HubFile[] {
  const ordered = [...parts].sort((a, b) => (a.path < b.path ? -1 : 1));
  const [first] = ordered;
  if (!first) return [];
  const count = Number(PART.exec(first.path)?.[2] ?? 1);
  if (ordered.length !== count) return [];
  const sizes = ordered.map(({ size }) => size);
  const hashes = ordered.flatMap(({ sha256 }) => sha256 ?? []);
  const urlOf = (path: string) => folder + path.split("/").map(encodeURIComponent).join("/");
  return [
    {
      path: first.path,
      urls: ordered.map(({ path }) => urlOf(path)),
      size: sizes.every((size) => size !== null)
        ? sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0)
        : null,
      sha256: hashes.length === count ? hashes : null,
      quantization: quantizationOf(first.path),
    },
  ];
}

/** The type that a file's name ends with. */
export function quantizationOf(path: string): string {
  const stem = path.replace(PART, ".gguf").replace(/\.gguf$/i, "");
  const found = [...stem.matchAll(QUANTIZATION)].at(-1)?.[1];
  return found?.toUpperCase() ?? "";
}

/** The file to suggest for so many bytes of memory; null if the repository has none. */
export function suggestFile(files: readonly HubFile[], budget: number): HubFile | null {
  const fits = files.filter(({ size }) => size === null || size <= budget);
  const small = fits.find(({ quantization, size }) => quantization === "Q8_0" && (size ?? Infinity) <= SMALL);
  if (small) return small;
  const rank = ({ quantization }: HubFile) => {
    const place = PREFERRED.indexOf(quantization);
    return place === -1 ? PREFERRED.length : place;
  };
  const [best] = [...fits].sort((a, b) => rank(a) - rank(b));
  // If none fits, the smallest is the one with the best chance.
  const [least] = [...files].sort((a, b) => (a.size ?? Infinity) - (b.size ?? Infinity));
  return best ?? least ?? null;
}
