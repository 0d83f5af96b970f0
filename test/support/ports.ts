import { createServer } from "node:net"

/**
 * A port of 127.0.0.1 where nothing listens. It lies below the range that the system hands out itself, so that
 * no server started later with port 0 takes it.
 */
export async function unusedPort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    if (await isFree(port)) return port
  }
  throw new Error("no unused port found")
}

const isFree = (port: number) =>
  new Promise<boolean>((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })
