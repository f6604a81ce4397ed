"""Prints the plan of the house: rooms, floors, upward arrows, circles, and how long files and functions are."""

from tests.house.imports import all_modules, circles, graph_of
from tests.house.rooms import arrows, arrows_that_run_upward, floors, rooms_of
from tests.house.sizes import file_lengths, function_lengths


def main() -> None:
    modules = all_modules()
    graph = graph_of(modules)
    rooms = rooms_of(graph)
    storeys = floors()
    upward = arrows_that_run_upward(graph, storeys)
    tied = circles(graph) + circles(rooms)

    print("The rooms of worker.engine, the highest floor first:")
    for number, floor in zip(range(len(storeys), 0, -1), storeys, strict=True):
        print(f"  {number:2}  {'  '.join(floor)}")
    print(f"\n{len(rooms)} rooms on {len(storeys)} floors, {sum(map(len, rooms.values()))} arrows between rooms")
    print(f"{len(upward)} of {len(arrows(graph))} imports between rooms run upward")
    for arrow in upward:
        print(f"  {arrow.importer} -> {arrow.imported}")
    print(f"{len(tied)} circles in the {len(graph)} modules of app, worker, agent, bench and in the rooms")
    for circle in tied:
        print(f"  {' '.join(circle)}")

    print(f"\n{'lines':12}{'median':>8}{'p90':>8}")
    paths = [module.path for module in modules.values()]
    for kind, lengths, long in (("files", file_lengths(paths), 300), ("functions", function_lengths(paths), 35)):
        print(f"{kind:12}{lengths.median:8.0f}{lengths.p90:8.0f}   {lengths.above(long)} above {long}")


if __name__ == "__main__":
    main()
