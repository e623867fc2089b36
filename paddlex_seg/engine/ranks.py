from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self):
        return self.rank == 0

    def any_of(self, flag):
        return flag

    def gather(self, value):
        return [value]

    def barrier(self):
        pass
