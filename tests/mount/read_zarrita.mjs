// node --input-type=module - DIRECTORY OUTPUT ARRAY... < read_zarrita.mjs
// Reads each array with zarrita: raw bytes go to OUTPUT/0, OUTPUT/1, ..., the rest to arrays.json.
import { writeFileSync } from "node:fs";
import { FileSystemStore } from "@zarrita/storage";
import * as zarr from "zarrita";

const [directory, output, ...paths] = process.argv.slice(2);
const root = zarr.root(new FileSystemStore(directory));

const NAMES = { bool: "bool", float32: "f4", float64: "f8" };
for (const bits of [8, 16, 32, 64]) {
  NAMES[`int${bits}`] = `i${bits / 8}`;
  NAMES[`uint${bits}`] = `u${bits / 8}`;
}

async function read(path) {
  const array = await zarr.open(root.resolve(path), { kind: "array" });
  const found = await zarr.get(array);
  if (array.shape.length === 0) return { shape: [], values: scalar(found), dtype: NAMES[array.dtype] };
  if (NAMES[array.dtype] === undefined || array.dtype === "bool") {
    return { shape: found.shape, values: Array.from(found.data), dtype: NAMES[array.dtype] ?? "str" };
  }
  const { buffer, byteOffset, byteLength } = found.data;
  return { shape: found.shape, stride: found.stride, bytes: new Uint8Array(buffer, byteOffset, byteLength), dtype: NAMES[array.dtype] };
}

const scalar = (found) => (typeof found === "object" && found?.data ? Array.from(found.data) : [found]);

const told = [];
for (const [number, path] of paths.entries()) {
  const { bytes, ...rest } = await read(`/${path}`);
  if (bytes !== undefined) writeFileSync(`${output}/${number}`, bytes);
  told.push({ values: null, ...rest });
}
writeFileSync(`${output}/arrays.json`, JSON.stringify(told));
