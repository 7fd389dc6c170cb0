/** Paths of builds, browsers and the model. If one is missing, the error names the command that makes it. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import catalogue from "../../pkg/src/catalogue.json" with { type: "json" };
import manifest from "../../pkg/package.json" with { type: "json" };

export const root = resolve(import.meta.dirname, "../..");

function there(path: string, remedy: string): string {
  if (!existsSync(path)) throw new Error(`${path} is missing: ${remedy}.`);
  return path;
}

/** The catalogue's entry of the model that tests run. */
export const smol = (() => {
  const [entry] = catalogue;
  const [file]: { path: string; size?: number; sha256?: string }[] = entry?.files ?? [];
  const [size, sha256] = [file?.size, file?.sha256];
  if (!entry || !file || !size || !sha256 || entry.id !== "smollm2-135m-instruct")
    throw new Error("the first model in pkg/src/catalogue.json must be SmolLM2, with its size and hash");
  return {
    ...entry,
    file: { ...file, size, sha256 },
    hubPath: `/hub/${entry.repo}/resolve/${entry.revision}/${file.path}`,
  };
})();

export const places = {
  get chromium(): string {
    return there(
      process.env.NOMOAT_CHROMIUM ?? "/usr/bin/chromium",
      "run `cargo xtask test` (it installs Chromium), or set NOMOAT_CHROMIUM",
    );
  },
  get firefox(): string {
    return there(
      process.env.NOMOAT_FIREFOX ?? "/usr/bin/firefox-esr",
      "run `cargo xtask test` (it installs Firefox), or set NOMOAT_FIREFOX",
    );
  },
  /** The folder of downloaded models. */
  get models(): string {
    return process.env.NOMOAT_MODELS ?? join(homedir(), ".cache/nomoat/models");
  },
  get model(): string {
    return there(
      join(places.models, smol.id, smol.file.path),
      `run \`cargo xtask model fetch ${smol.id}\` first`,
    );
  },
  get tarball(): string {
    const path = process.env.NOMOAT_TARBALL ?? join(root, `target/npm/nomoat-${manifest.version}.tgz`);
    return there(path, "run `cargo xtask pack` first");
  },
  get page(): string {
    there(join(root, "web/dist/index.html"), "run `cargo xtask build` first");
    return join(root, "web/dist");
  },
  get package(): string {
    there(join(root, "pkg/dist/wasm/cpu-threads/nomoat_runtime_bg.wasm"), "run `cargo xtask build` first");
    return join(root, "pkg/dist");
  },
  /** Vocabularies with their token vectors. */
  get vocabularies(): string {
    return join(root, "tests/vocab");
  },
  /** The native program. */
  get program(): string {
    const path = process.env.NOMOAT_PROGRAM ?? join(root, "target/checked/nomoat");
    return there(path, "`cargo xtask test --only browser` builds it");
  },
  get golden(): string {
    return join(root, `tests/golden/${smol.id}.dev.json`);
  },
};
