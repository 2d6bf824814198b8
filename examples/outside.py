"""A task can be added outside of any request: from a script, a scheduler, another program with the same data directory.

python -m examples.outside
"""

import asyncio

from afterwards import Afterwards


async def add_up(numbers: list[int]) -> int:
    await asyncio.sleep(0.1)
    return sum(numbers)


async def main() -> None:
    afterwards = Afterwards()
    await afterwards.start()
    try:
        handle = await afterwards.enqueue(add_up, [1, 2, 3])
        print(f"task {handle.id} is on the disk")
        print(f"its result is {await handle.result(timeout=30)}")
    finally:
        await afterwards.stop()


if __name__ == "__main__":
    asyncio.run(main())
