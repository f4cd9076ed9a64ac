// node --input-type=module - DIRECTORY create|change < write_zarrita.mjs
// Writes groups and arrays with zarrita, or changes what the first call wrote.
import { FileSystemStore } from "@zarrita/storage";
import * as zarr from "zarrita";

const [directory, what] = process.argv.slice(2);
const root = zarr.root(new FileSystemStore(directory));
const codecs = [{ name: "bytes", configuration: { endian: "little" } }];

if (what === "create") {
  await zarr.create(root, { attributes: { made_by: "zarrita" } });
  await zarr.create(root.resolve("a"));
  const x = await zarr.create(root.resolve("a/x"), {
    shape: [9, 7],
    chunkShape: [4, 3],
    dtype: "int32",
    fillValue: 0,
    dimensionNames: ["row", "column"],
    codecs,
  });
  const data = Int32Array.from({ length: 63 }, (_, i) => i);
  await zarr.set(x, null, { data, shape: [9, 7], stride: [7, 1] });
  const line = await zarr.create(root.resolve("line"), {
    shape: [10],
    chunkShape: [4],
    dtype: "float64",
    fillValue: -1,
    codecs,
  });
  await zarr.set(line, [zarr.slice(0, 6)], 2.5); // the last chunk is never written
} else {
  const x = await zarr.open(root.resolve("a/x"), { kind: "array" });
  await zarr.set(x, [zarr.slice(1, 5), 1], -5);
  const line = await zarr.open(root.resolve("line"), { kind: "array" });
  await zarr.set(line, null, 4);
  // zarrita has no call for new attributes: the metadata is an object in the store as any other
  const found = JSON.parse(new TextDecoder().decode(await root.store.get("/a/x/zarr.json")));
  found.attributes = { changed: true };
  await root.store.set("/a/x/zarr.json", new TextEncoder().encode(JSON.stringify(found)));
}
