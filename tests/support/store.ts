/** The package's store, seen from outside: the Cache Storage of the page's origin. */
import type { Page } from "@playwright/test";
import { statSync } from "node:fs";

/** Bytes per shard. */
export const SHARD = 8 * 1024 * 1024;

/** The number of a file's shards. */
export function shardsOf(file: string): number {
  return Math.ceil(statSync(file).size / SHARD);
}

/** Stored shards as `first-last` byte, of the file from this path or of all files. */
export async function storedShards(page: Page, path?: string): Promise<string[]> {
  const urls = await shardUrls(page, path);
  return urls.map((url) => url.slice(url.lastIndexOf("/") + 1));
}

/** Flips one bit of a stored shard. */
export async function corruptShard(page: Page, path: string, index: number): Promise<void> {
  const url = (await shardUrls(page, path)).find((candidate) => candidate.includes(`/${index * SHARD}-`));
  if (url === undefined) throw new Error(`shard ${index} of ${path} is not stored`);
  await page.evaluate(async (key) => {
    const cache = await caches.open("nomoat-models-v1");
    const bytes = new Uint8Array((await (await cache.match(key))?.arrayBuffer()) ?? []);
    bytes[bytes.length >> 1]! ^= 1;
    await cache.put(key, new Response(bytes));
  }, url);
}

/** URLs of the stored shards. */
function shardUrls(page: Page, path?: string): Promise<string[]> {
  return page.evaluate(async (wanted) => {
    const cache = await caches.open("nomoat-models-v1");
    const keys = (await cache.keys()).map(({ url }) => url);
    const identities: string[] = [];
    for (const key of keys.filter((url) => url.includes("/manifest/"))) {
      const manifest = (await (await cache.match(key))?.json()) as { url: string; identity: string };
      if (wanted === undefined || new URL(manifest.url).pathname === wanted)
        identities.push(manifest.identity);
    }
    const shards = keys.filter((url) => url.includes("/shard/"));
    return wanted === undefined ? shards : shards.filter((url) => identities.some((id) => url.includes(id)));
  }, path);
}
