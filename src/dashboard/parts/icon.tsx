const paths = {
  brand:
    "M12 8v8M12 12l5-3.5M12 12L7 8.5M12 12l5 4.5M12 12l-5 4.5M12 12m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M4 3h16a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1",
  fleet: "M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01",
  live: "M3 12h4l3 8 4-16 3 8h4",
  chat: "M4 5h16v11H9l-5 4z",
  bars: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  key: "M8 15m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M11 12l9-9M16 7l3 3",
  chip: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
  gauge: "M4 18a9 9 0 1 1 16 0M12 14l4-5",
  plug: "M9 3v5M15 3v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4",
  settings:
    "M4 7h10M18 7h2M4 17h2M10 17h10M16 7m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0M8 17m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  code: "M8 6l-6 6 6 6M16 6l6 6-6 6",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  stop: "M6 6h12v12H6z",
  send: "M4 12l16-8-6 16-3-7z",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  more: "M6 9l6 6 6-6"
} as const

export type IconName = keyof typeof paths

export const Icon = ({ name }: { readonly name: IconName }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d={paths[name]} />
  </svg>
)
