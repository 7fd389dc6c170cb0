/** A limit for the memory of a browser and all its processes, by a cgroup. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A cgroup with a limit. */
export interface Cgroup {
  version: 1 | 2;
  /** A script that becomes the program, within the limit. */
  wrapper(program: string): string;
  /**
   * Bytes of all processes, shared ones once, without the pages of files: those can be dropped and read
   * again.
   */
  residentBytes(): number;
  /** Processes that were ended because the limit was reached. */
  killed(): number;
  /** After all processes have ended. */
  remove(): void;
}

const ROOT = "/sys/fs/cgroup";

/** Makes a cgroup, or returns why there is none: it takes Linux and, as a rule, root. */
export function limitMemory(bytes: number): Cgroup | string {
  try {
    return existsSync(join(ROOT, "cgroup.controllers")) ? unified(bytes) : separate(bytes);
  } catch (error) {
    return (error as Error).message;
  }
}

function unified(bytes: number): Cgroup {
  writeFileSync(join(ROOT, "cgroup.subtree_control"), "+memory");
  const folder = make(ROOT);
  writeFileSync(join(folder, "memory.max"), String(bytes));
  if (existsSync(join(folder, "memory.swap.max"))) writeFileSync(join(folder, "memory.swap.max"), "0");
  return cgroup(2, folder, ["anon", "shmem"], "memory.events");
}

function separate(bytes: number): Cgroup {
  const folder = make(join(ROOT, "memory"));
  writeFileSync(join(folder, "memory.limit_in_bytes"), String(bytes));
  return cgroup(1, folder, ["rss", "shmem"], "memory.oom_control");
}

function make(parent: string): string {
  const folder = join(parent, `nomoat-${process.pid}`);
  mkdirSync(folder);
  return folder;
}

function cgroup(version: 1 | 2, folder: string, kinds: string[], events: string): Cgroup {
  const read = (name: string, key: string) =>
    Number(new RegExp(`^${key} (\\d+)`, "m").exec(readFileSync(join(folder, name), "utf8"))?.[1] ?? 0);
  return {
    version,
    wrapper: (program) => `#!/bin/sh\necho $$ > ${folder}/cgroup.procs && exec ${program} "$@"\n`,
    residentBytes: () => kinds.reduce((sum, kind) => sum + read("memory.stat", kind), 0),
    killed: () => read(events, "oom_kill"),
    remove: () => rmdirSync(folder),
  };
}
