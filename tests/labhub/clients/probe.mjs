// What the official JavaScript client does with a hub: one JSON line per operation, on the hub that HF_ENDPOINT names.
// Usage: node probe.mjs FOLDER-WITH-node_modules
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const library = join(process.argv[2], "node_modules/@huggingface/hub/dist/index.mjs");
const hub = await import(pathToFileURL(library));
const hubUrl = process.env.HF_ENDPOINT;
const lab = { hubUrl, accessToken: process.env.HUB_LAB_TOKEN };
const guest = { hubUrl, accessToken: process.env.HUB_GUEST_TOKEN };
const nobody = { hubUrl };

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const bytesOf = async (blob) => new Uint8Array(await blob.arrayBuffer());
const collect = async (pages) => {
  const all = [];
  for await (const entry of pages) all.push(entry);
  return all;
};
const refused = (promise, ...statuses) =>
  assert.rejects(promise, (error) => assert(statuses.includes(error.statusCode), String(error)) ?? true);

const newRepo = async (name, files = {}, options = {}) => {
  const repo = { type: "dataset", name: `lab/${name}` };
  await hub.createRepo({ repo, ...lab, ...options });
  if (Object.keys(files).length) await write(repo, files);
  return repo;
};
const write = (repo, files, { by = lab, title = "Change", ...options } = {}) =>
  hub.uploadFiles({
    repo,
    files: Object.entries(files).map(([path, content]) => ({ path, content: new Blob([content]) })),
    commitTitle: title,
    ...by,
    ...options,
  });
const head = async (repo) => (await hub.datasetInfo({ name: repo.name, additionalFields: ["sha"], ...lab })).sha;

const operations = {
  async npm_whoami_names_the_account() {
    const { name, type, auth } = await hub.whoAmI(lab);
    assert.deepEqual([name, type, auth.accessToken.role], ["lab", "user", "write"]);
    await refused(hub.whoAmI({ hubUrl, accessToken: "hf_nobodyknowsthistoken" }), 401);
  },
  async npm_repos_are_created_and_deleted() {
    const repo = await newRepo("npm-repos");
    assert.equal(await hub.repoExists({ repo, ...lab }), true);
    await refused(hub.createRepo({ repo, ...lab }), 409);
    await refused(hub.deleteRepo({ repo, ...guest }), 403);
    await hub.deleteRepo({ repo, ...lab });
    assert.equal(await hub.repoExists({ repo, ...lab }), false);
  },
  async npm_private_repos_do_not_exist_for_others() {
    const repo = await newRepo("npm-private", { "a.txt": "1" }, { visibility: "private" });
    assert.equal((await hub.datasetInfo({ name: repo.name, ...lab })).private, true);
    await refused(hub.checkRepoAccess({ repo, ...nobody }), 401);
    await refused(hub.checkRepoAccess({ repo, ...guest }), 404);
    const seen = (await collect(hub.listDatasets({ search: { query: "npm-private" }, ...guest }))).map((d) => d.name);
    assert.deepEqual(seen, []);
  },
  async npm_small_and_large_files_come_back_the_same() {
    const large = randomBytes(12 * 2 ** 20);
    const repo = await newRepo("npm-files", { "dir/a.txt": "Grüße", "large.parquet": large });
    const text = await hub.downloadFile({ repo, path: "dir/a.txt", ...nobody });
    assert.equal(await text.text(), "Grüße");
    const back = await hub.downloadFile({ repo, path: "large.parquet", ...nobody });
    assert.equal(sha256(await bytesOf(back)), sha256(large));
    assert.deepEqual(Buffer.from(await bytesOf(back.slice(5_000_000, 5_000_100))), large.subarray(5_000_000, 5_000_100));
    const [, info] = await hub.pathsInfo({ repo, paths: ["dir/a.txt", "large.parquet"], ...lab });
    assert.deepEqual([info.size, info.lfs.oid], [large.length, sha256(large)]);
    assert.equal(await hub.downloadFile({ repo, path: "none.txt", ...lab }), null);
  },
  async npm_files_are_listed_over_pages() {
    const names = Array.from({ length: 300 }, (_, n) => `many/${String(n).padStart(3, "0")}.txt`);
    const repo = await newRepo("npm-list", Object.fromEntries(names.map((name) => [name, "same"])));
    const listed = await collect(hub.listFiles({ repo, recursive: true, ...nobody }));
    assert.deepEqual(
      listed.filter((entry) => entry.type === "file").map((entry) => entry.path),
      [".gitattributes", ...names],
    );
  },
  async npm_a_stale_parent_is_refused() {
    const repo = await newRepo("npm-parent");
    const first = await head(repo);
    await write(repo, { "a.txt": "1" }, { parentCommit: first });
    await refused(write(repo, { "b.txt": "2" }, { parentCommit: first }), 412);
    assert.equal(await hub.fileExists({ repo, path: "b.txt", ...lab }), false);
  },
  async npm_commits_are_listed_and_counted() {
    const repo = await newRepo("npm-commits");
    for (let n = 0; n < 5; n++) await write(repo, { "a.txt": String(n) }, { title: `Commit ${n}` });
    const titles = (await collect(hub.listCommits({ repo, batchSize: 2, ...nobody }))).map((commit) => commit.title);
    assert.deepEqual(titles.slice(0, 5), [4, 3, 2, 1, 0].map((n) => `Commit ${n}`));
    assert.equal(await hub.countCommits({ repo, ...nobody }), titles.length);
  },
  async npm_files_are_deleted() {
    const repo = await newRepo("npm-delete", { "a.txt": "1", "b.txt": "2", "c.txt": "3" });
    await hub.deleteFile({ repo, path: "a.txt", ...lab });
    await hub.deleteFiles({ repo, paths: ["b.txt"], ...lab });
    const left = (await collect(hub.listFiles({ repo, ...lab }))).map((entry) => entry.path);
    assert.deepEqual(left, [".gitattributes", "c.txt"]);
  },
  async npm_branches_grow_apart() {
    const repo = await newRepo("npm-branch", { "a.txt": "1" });
    await hub.createBranch({ repo, branch: "exp/one", ...lab });
    await write(repo, { "a.txt": "2" }, { branch: "exp/one" });
    const read = async (revision) => (await hub.downloadFile({ repo, path: "a.txt", revision, ...lab })).text();
    assert.deepEqual([await read("main"), await read("exp/one")], ["1", "2"]);
    await hub.deleteBranch({ repo, branch: "exp/one", ...lab });
    await refused(read("exp/one"), 404);
  },
  async npm_a_guest_may_only_open_a_pull_request() {
    const repo = await newRepo("npm-pr", { "a.txt": "1" });
    await refused(write(repo, { "b.txt": "2" }, { by: guest }), 403);
    const { pullRequestUrl } = await write(repo, { "b.txt": "2" }, { by: guest, isPullRequest: true });
    assert.match(pullRequestUrl, /\/datasets\/lab\/npm-pr\/discussions\/1$/);
    const file = await hub.downloadFile({ repo, path: "b.txt", revision: "refs/pr/1", ...nobody });
    assert.equal(await file.text(), "2");
    assert.equal(await hub.fileExists({ repo, path: "b.txt", ...nobody }), false);
  },
  async npm_a_snapshot_is_downloaded() {
    const repo = await newRepo("npm-snapshot", { "a.txt": "1", "dir/b.txt": "2" });
    const cacheDir = await mkdtemp(join(tmpdir(), "npm-snapshot-"));
    const folder = await hub.snapshotDownload({ repo, cacheDir, ...nobody });
    assert.equal(await readFile(join(folder, "dir/b.txt"), "utf8"), "2");
  },
  async npm_models_and_datasets_are_listed() {
    await newRepo("npm-listed");
    await hub.createRepo({ repo: { type: "model", name: "lab/npm-listed-model" }, ...lab });
    const names = async (pages) => (await collect(pages)).map((entry) => entry.name);
    const search = { query: "npm-listed", owner: "lab" };
    assert.deepEqual(await names(hub.listDatasets({ search, ...nobody })), ["lab/npm-listed"]);
    assert.deepEqual(await names(hub.listModels({ search, ...nobody })), ["lab/npm-listed-model"]);
  },
};

for (const [operation, run] of Object.entries(operations)) {
  const began = performance.now();
  const outcome = await run().then(
    () => ({ outcome: "worked", detail: "" }),
    (error) => ({ outcome: "failed", detail: String(error.stack ?? error).slice(0, 1500) }),
  );
  console.log(JSON.stringify({ operation, seconds: (performance.now() - began) / 1000, ...outcome }));
}
