from diapir.faults import Fault, report


def test_few_faults_are_all_told_in_order() -> None:
    faults = [Fault("a.csv:2", 'id "x" is bad'), Fault("", "is empty"), Fault("a.csv:1", 'id "y" is bad')]
    assert report(faults) == [str(fault) for fault in faults]


def test_of_many_alike_the_first_are_told_and_the_rest_counted() -> None:
    alike = [Fault(f"a.csv:{line}", f'expected the image a/{line}.png of the id "{line}"') for line in range(1000)]
    rare = Fault("b.csv:1", "is no table")
    lines = report([*alike, rare], most_alike=3)
    assert lines[:4] == [*(str(fault) for fault in alike[:3]), str(rare)]
    assert lines[4:] == [f"and 997 more like this one (2> FILE keeps them all): {alike[0]}"]
    assert report([*alike, rare]) == [str(fault) for fault in (*alike, rare)]


def test_a_fault_is_one_line_whatever_a_name_holds() -> None:
    assert report([Fault("a\nb\x1b[31m\udcff größe 雪", "is bad")]) == [r"a\nb\x1b[31m\udcff größe 雪: is bad"]
