// Sends one file with a client that people use, and prints what became of it as one line of JSON.
// The one argument is JSON: {client, endpoint, path, name, ...}; see each client below for more.

import { readFileSync } from "node:fs"
import * as tus from "tus-js-client"

const asked = JSON.parse(process.argv[2])
const delays = Array(400).fill(50) // a server that is started again takes a while

function sendWithTus() {
  return new Promise((resolve, reject) => {
    const upload = new tus.Upload(readFileSync(asked.path), {
      endpoint: asked.endpoint,
      chunkSize: asked.chunkSize ?? Infinity,
      parallelUploads: asked.parallel ?? 1,
      protocol: asked.protocol ?? "tus-v1",
      uploadDataDuringCreation: asked.withCreation ?? false,
      overridePatchMethod: asked.override ?? false,
      uploadLengthDeferred: asked.deferred ?? false,
      retryDelays: delays,
      onShouldRetry: () => true,
      metadata: { filename: asked.name, filetype: "application/octet-stream" },
      onError: reject,
      onSuccess: () => resolve({ url: upload.url }),
    })
    if (asked.stopAt) { // as somebody who closes the page and comes back
      upload.options.onProgress = (sent) => {
        if (sent >= asked.stopAt && !upload.stopped) {
          upload.stopped = true
          upload.abort().then(() => upload.start())
        }
      }
    }
    upload.start()
  })
}

async function terminateWithTus() {
  const upload = new tus.Upload(readFileSync(asked.path), { endpoint: asked.endpoint, chunkSize: 100_000 })
  await new Promise((resolve, reject) => {
    upload.options.onError = reject
    upload.options.onChunkComplete = () => resolve()
    upload.start()
  })
  await upload.abort(true)
  return { url: upload.url }
}

async function sendWithUppy() {
  const { default: Uppy } = await import("@uppy/core")
  const { default: Tus } = await import("@uppy/tus")
  const uppy = new Uppy({ autoProceed: false })
  uppy.use(Tus, {
    endpoint: asked.endpoint,
    chunkSize: asked.chunkSize ?? Infinity,
    retryDelays: delays,
    onShouldRetry: () => true,
    limit: 3,
    storeFingerprintForResuming: false,
  })
  const names = asked.names ?? [asked.name]
  for (const name of names) uppy.addFile({ name, type: "application/octet-stream", data: readFileSync(asked.path) })
  const done = await uppy.upload()
  if (done.failed.length) throw new Error(done.failed.map((one) => one.error).join("; "))
  return { urls: done.successful.map((one) => one.uploadURL) }
}

const clients = { tus: sendWithTus, uppy: sendWithUppy, terminate: terminateWithTus }
try {
  console.log(JSON.stringify(await clients[asked.client]()))
} catch (error) {
  console.log(JSON.stringify({ error: String(error?.message ?? error) }))
  process.exitCode = 1
}
process.exit() // uppy keeps timers
