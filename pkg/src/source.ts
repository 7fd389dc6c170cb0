/** Resolves the caller's model source to the files that the worker loads. */
import { catalogue, hubUrl } from "./catalogue.js";
import { InvalidRequestError, ModelNotFoundError } from "./errors.js";
import type { FileSpec, ModelFiles, RemoteFile } from "./protocol.js";

/** A model by catalogue id or address, by files, or by addresses with their hashes. */
export type ModelSource =
  | string
  | File
  | File[]
  | {
      /** Address, or all addresses of a split model in order. */
      url: string | string[];
      /** SHA-256 (hex) of each file, in the order of the addresses. */
      sha256?: string | string[];
      /** Name for the list of stored models. */
      name?: string;
    };

/** How model files are requested. */
export interface SourceOptions {
  /**
   * Address of the hub or of a mirror of it, absolute or relative to the page. Default:
   * https://huggingface.co
   */
  hubEndpoint?: string;
  /** Access token; sent to the hub endpoint's origin only. */
  hubToken?: string;
  /** Sent with every request for model files. */
  headers?: Record<string, string>;
  /**
   * Where the browser has Cross-Origin Storage, take files from there by their SHA-256, and offer them to
   * other sites once they are loaded. Default true.
   */
  crossOriginStorage?: boolean;
}

/** A model as files. */
export interface ResolvedSource {
  name: string;
  files: FileSpec[];
  /** The built-in chat template that it needs, or null. */
  template: string | null;
}

const DEFAULT_HUB = "https://huggingface.co";
/** Hosts of the hub besides the endpoint. */
const HUB_HOSTS = new Set(["huggingface.co", "www.huggingface.co", "hf.co"]);
const SPLIT = /-(\d{5})-of-(\d{5})(\.gguf)$/i;
/** More parts than any published model has. */
const MAX_PARTS = 1000;

/**
 * Absolute addresses of the files of a model, as `listStoredModels` has them: all parts of a split model, and
 * the file itself where the address of a hub's page about it was given. Empty for files. Throws as
 * `createEngine` does.
 */
export function modelUrls(model: ModelSource, options: SourceOptions = {}): string[] {
  const { files } = resolveSource(model, options, location.href);
  return files.flatMap((file) => (file.kind === "url" ? file.url : []));
}

/** The hub, or the mirror of it that the options name. */
export function hubOf({ hubEndpoint }: SourceOptions, base: string): URL {
  return parseUrl(hubEndpoint ?? DEFAULT_HUB, base, "hubEndpoint");
}

/** Resolves a model source; `base` is the page's address. */
export function resolveSource(source: ModelSource, options: SourceOptions, base: string): ResolvedSource {
  if (typeof source === "string") {
    const entry = catalogue.find((candidate) => candidate.id === source);
    const hub = hubOf(options, base);
    if (entry) {
      const files = entry.files.map((file) =>
        remote(
          parseUrl(hubUrl(hub.href, entry, file.path), base, "model"),
          file.sha256 ?? null,
          file.size ?? null,
          hub,
          options,
        ),
      );
      return { name: entry.name, files, template: entry.template ?? null };
    }
    if (!/^(https?:|\.{0,2}\/)/i.test(source)) {
      const known = catalogue.map((candidate) => candidate.id).join(", ");
      throw new ModelNotFoundError(
        `There is no model "${source}" in the catalogue (${known}), and it is no address.`,
      );
    }
    return resolveSource({ url: source }, options, base);
  }
  if (source instanceof File) return localFiles([source]);
  if (Array.isArray(source)) return localFiles(source);
  return remoteFiles(source, options, base);
}

/** The same for a draft model; errors name that option. */
export function draftFiles(source: ModelSource, options: SourceOptions, base: string): ModelFiles {
  try {
    const { name, files } = resolveSource(source, options, base);
    return { name, files };
  } catch (error) {
    if (!(error instanceof InvalidRequestError)) throw error;
    const param = error.param?.replace(/^model/, "draft");
    throw new InvalidRequestError(error.message.replaceAll("`model", "`draft"), param);
  }
}

function remoteFiles(
  source: { url: string | string[]; sha256?: string | string[]; name?: string },
  options: SourceOptions,
  base: string,
): ResolvedSource {
  const hub = hubOf(options, base);
  const given = [source?.url ?? []].flat();
  if (given.length === 0 || given.some((url) => typeof url !== "string"))
    throw new InvalidRequestError("`model` must be a catalogue id, an address, a File, or { url }.", "model");
  const parsed = given.map((url) => fileUrl(parseUrl(url, base, "model.url"), hub));
  const urls = parsed.length === 1 ? parsed.flatMap(expandSplit) : parsed;
  const hashes = source.sha256 === undefined ? [] : [source.sha256].flat();
  if (hashes.length > 0 && hashes.length !== urls.length)
    throw new InvalidRequestError(
      `The model has ${urls.length} files but ${hashes.length} sha256: give one for each, in order.`,
      "model.sha256",
    );
  for (const hash of hashes)
    if (typeof hash !== "string" || !/^[0-9a-f]{64}$/i.test(hash))
      throw new InvalidRequestError("A sha256 is 64 hexadecimal digits.", "model.sha256");
  const files = urls.map((url, index) =>
    remote(url, hashes[index]?.toLowerCase() ?? null, null, hub, options),
  );
  return { name: source.name ?? nameOf(urls[0]?.pathname ?? ""), files, template: null };
}

function remote(
  url: URL,
  sha256: string | null,
  size: number | null,
  hub: URL,
  options: SourceOptions,
): RemoteFile {
  const headers = { ...options.headers };
  if (options.hubToken && url.origin === hub.origin) headers["Authorization"] = `Bearer ${options.hubToken}`;
  return { kind: "url", url: url.href, sha256, size, headers };
}

/** The address of a file on a hub, also if it is given as that of the page about the file. */
function fileUrl(url: URL, hub: URL): URL {
  const folder = hub.pathname.replace(/\/+$/, "");
  const onHub = url.origin === hub.origin && url.pathname.startsWith(`${folder}/`);
  if (!onHub && !HUB_HOSTS.has(url.host)) return url;
  const path = url.pathname.slice(onHub ? folder.length : 0);
  const match = /^(\/[^/]+\/[^/]+)\/(?:blob|raw)(\/[^/]+\/.+)$/.exec(path);
  if (!match) return url;
  const file = new URL(url);
  file.pathname = `${onHub ? folder : ""}${match[1]}/resolve${match[2]}`;
  return file;
}

function parseUrl(text: string, base: string, param: string): URL {
  let url: URL;
  try {
    url = new URL(text, base);
  } catch {
    throw new InvalidRequestError(`"${text}" is not an address.`, param);
  }
  if (!/^https?:$/.test(url.protocol))
    throw new InvalidRequestError(`"${text}" is not an http(s) address.`, param);
  url.hash = "";
  return url;
}

/** All addresses of a split model, from any one of them. Another file's address is returned as it is. */
function expandSplit(url: URL): URL[] {
  const match = SPLIT.exec(url.pathname);
  if (!match) return [url];
  const count = Number(match[2]);
  if (count < 1 || count > MAX_PARTS || Number(match[1]) > count || Number(match[1]) < 1)
    throw new InvalidRequestError(`"${match[0]}" does not number the parts of a split model.`, "model");
  return Array.from({ length: count }, (_, index) => {
    const part = new URL(url);
    part.pathname = url.pathname.replace(SPLIT, `-${String(index + 1).padStart(5, "0")}-of-$2$3`);
    return part;
  });
}

function localFiles(files: File[]): ResolvedSource {
  const [first] = files;
  if (!first || files.some((file) => !(file instanceof File)))
    throw new InvalidRequestError("`model` is an empty list: give at least one File.", "model");
  const ordered = sortParts(files).map((file) => ({ kind: "file" as const, file }));
  return { name: nameOf(first.name), files: ordered, template: null };
}

/** Files in the order of their part numbers. Throws if some are missing or do not belong. */
function sortParts(files: File[]): File[] {
  const parts = files.map((file) => ({ file, match: SPLIT.exec(file.name) }));
  const [first] = parts;
  if (files.length === 1 && !first?.match) return files;
  if (!first?.match)
    throw new InvalidRequestError(
      "Several files make one model only if they are named ...-00001-of-0000N.gguf.",
      "model",
    );
  const stem = (part: (typeof parts)[number]) => part.file.name.replace(SPLIT, "-of-$2");
  const stranger = parts.find((part) => stem(part) !== stem(first));
  if (stranger)
    throw new InvalidRequestError(
      `"${stranger.file.name}" and "${first.file.name}" are not parts of one model.`,
      "model",
    );
  const byNumber = new Map(parts.map((part) => [Number(part.match?.[1]), part.file]));
  const count = Number(first.match[2]);
  if (count > MAX_PARTS || byNumber.size !== files.length || byNumber.size > count)
    throw new InvalidRequestError("The files' part numbers make no sense: choose each part once.", "model");
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const missing = numbers.filter((number) => !byNumber.has(number));
  if (missing.length > 0)
    throw new InvalidRequestError(
      `The model has ${count} parts; missing: ${missing.slice(0, 10).join(", ")}. Choose all parts together.`,
      "model",
    );
  return numbers.flatMap((number) => byNumber.get(number) ?? []);
}

function nameOf(path: string): string {
  const last = path.split("/").pop() ?? path;
  let decoded = last;
  try {
    decoded = decodeURIComponent(last);
  } catch {
    // A stray percent sign: the name is used as it is.
  }
  return decoded.replace(SPLIT, "").replace(/\.gguf$/i, "") || "model";
}
